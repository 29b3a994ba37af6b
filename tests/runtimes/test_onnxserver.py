"""The ONNX runtime's own: providers, inputs by name, types, Triton's folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.errors import BadModel, UserError
from runtimes.onnxserver.model import OnnxModel, model_directory
from runtimes.onnxserver.providers import CPU, CUDA, TENSORRT, decide_providers
from tests.ladle.server.serving import served, tensor

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


Values = dict[str, tuple[str, list[Any]]]
"""Name to type and shape."""


def save(directory: Path, nodes: list[Any], inputs: Values, outputs: Values) -> Path:
    def info(described: Values) -> list[Any]:
        kinds = onnx.TensorProto
        return [onnx.helper.make_tensor_value_info(n, getattr(kinds, k), s) for n, (k, s) in described.items()]

    graph = onnx.helper.make_graph(nodes, "g", info(inputs), info(outputs))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return directory


@pytest.fixture
def adder(tmp_path: Path) -> OnnxModel:
    node = onnx.helper.make_node("Add", ["a", "b"], ["sum"])
    shape = ["rows", 2]
    return OnnxModel(
        "m", save(tmp_path, [node], {"a": ("FLOAT", shape), "b": ("FLOAT", shape)}, {"sum": ("FLOAT", shape)})
    )


class TestInputs:
    async def test_they_are_taken_by_name_in_any_order(self, adder: OnnxModel) -> None:
        inputs = [tensor("b", "FP32", [1, 2], [10, 20]), tensor("a", "FP32", [1, 2], [1, 2])]
        async with served(adder) as app:
            assert json.loads((await app.v2("m", {"inputs": inputs})).body)["outputs"][0]["data"] == [11, 22]

    async def test_v1_rows_are_objects_where_there_are_several(self, adder: OnnxModel) -> None:
        async with served(adder) as app:
            answer = await app.v1("m", {"instances": [{"a": [1, 2], "b": [3, 4]}, {"a": [5, 6], "b": [7, 8]}]})
            assert answer.text == '{"predictions":[[4.0,6.0],[12.0,14.0]]}'
            assert (await app.v1("m", {"instances": [[1, 2]]})).status == 400
            assert "has no 'b'" in (await app.v1("m", {"instances": [{"a": [1, 2]}]})).text

    @pytest.mark.parametrize(
        ("inputs", "error"),
        [
            ([tensor("a", "FP32", [1, 2], [1, 2])], "inputs are ['a'], expected ['a', 'b']"),
            (
                [tensor("a", "FP64", [1, 2], [1, 2]), tensor("b", "FP32", [1, 2], [1, 2])],
                "input 'a': datatype FP64, expected FP32",
            ),
            (
                [tensor("a", "FP32", [1, 3], [1, 2, 3]), tensor("b", "FP32", [1, 2], [1, 2])],
                "input 'a': shape [1, 3], expected [-1, 2]",
            ),
            (
                [tensor("a", "FP32", [2], [1, 2]), tensor("b", "FP32", [1, 2], [1, 2])],
                "input 'a': shape [2], expected [-1, 2]",
            ),
        ],
    )
    async def test_what_does_not_fit_the_graph_is_a_400(self, adder: OnnxModel, inputs: list[Any], error: str) -> None:
        async with served(adder) as app:
            answer = await app.v2("m", {"inputs": inputs})
        assert (answer.status, json.loads(answer.body)["error"]) == (400, error)

    async def test_an_unknown_output_is_a_400(self, adder: OnnxModel) -> None:
        inputs = [tensor(name, "FP32", [1, 2], [1, 2]) for name in "ab"]
        async with served(adder) as app:
            answer = await app.v2("m", {"inputs": inputs, "outputs": [{"name": "nope"}]})
        assert (answer.status, "'sum'" in answer.text) == (400, True)

    async def test_texts_go_through_a_graph(self, tmp_path: Path) -> None:
        node = onnx.helper.make_node("Identity", ["t"], ["u"])
        model = OnnxModel("m", save(tmp_path, [node], {"t": ("STRING", [None])}, {"u": ("STRING", [None])}))
        async with served(model) as app:
            answer = await app.v2("m", {"inputs": [tensor("t", "BYTES", [2], ["a", "é"])]})
            assert json.loads(answer.body)["outputs"] == [tensor("u", "BYTES", [2], ["a", "é"])]
            assert (await app.v1("m", {"instances": ["x"]})).text == '{"predictions":["x"]}'


class TestFiles:
    def test_the_newest_version_folder_counts(self, tmp_path: Path) -> None:
        for version in ("1", "10", "9", "old"):
            (tmp_path / version).mkdir()
        assert model_directory(tmp_path) == tmp_path / "10"
        (tmp_path / "model.onnx").touch()
        assert model_directory(tmp_path) == tmp_path

    def test_a_broken_graph_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(b"nope")
        with pytest.raises(BadModel, match=r"model\.onnx: "):
            OnnxModel("m", tmp_path).load()

    def test_metadata_comes_from_the_graph(self, adder: OnnxModel) -> None:
        adder.load()
        metadata = adder.metadata()
        assert [(found.name, found.datatype, found.shape) for found in metadata.inputs] == [
            ("a", "FP32", (-1, 2)),
            ("b", "FP32", (-1, 2)),
        ]
        assert metadata.properties["provider"] == CPU


class TestProviders:
    @pytest.mark.parametrize(
        ("wish", "available", "gpu", "providers", "reason"),
        [
            ("auto", [CPU], False, (CPU,), ""),
            ("auto", [CUDA, CPU], True, (CUDA, CPU), ""),
            ("auto", [CPU], True, (CPU,), "install onnxruntime-gpu"),
            ("cpu", [CUDA, CPU], True, (CPU,), ""),
            ("cuda", [CPU], False, (CPU,), f"{CUDA} is not in the installed onnxruntime, which has {CPU}"),
            ("tensorrt", [TENSORRT, CUDA, CPU], True, (TENSORRT, CUDA, CPU), ""),
            ("tensorrt", [CUDA, CPU], True, (CUDA, CPU), f"{TENSORRT} is not in"),
        ],
    )
    def test_the_best_that_is_there_with_the_reason_if_it_is_not_the_wish(
        self, wish: str, available: list[str], gpu: bool, providers: tuple[str, ...], reason: str
    ) -> None:
        choice = decide_providers({"LADLE_ONNX_PROVIDER": wish}, available, gpu_present=gpu)
        assert choice.providers == providers
        assert reason in choice.reason
        assert bool(reason) == bool(choice.reason)

    def test_another_word_is_refused(self) -> None:
        with pytest.raises(UserError, match="LADLE_ONNX_PROVIDER = npu, must be one of cpu, cuda, tensorrt, auto"):
            decide_providers({"LADLE_ONNX_PROVIDER": "npu"}, [CPU], gpu_present=False)

    def test_a_wish_that_cannot_be_met_falls_back_and_shows_in_the_metadata(self, tmp_path: Path) -> None:
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        save(tmp_path, [node], {"x": ("FLOAT", [1])}, {"y": ("FLOAT", [1])})
        model = OnnxModel("m", tmp_path, env={"LADLE_ONNX_PROVIDER": "tensorrt"})
        model.load()
        assert "TensorrtExecutionProvider is not in" in model.metadata().properties["provider_reason"]
        assert np.asarray(model._session.run(None, {"x": np.ones(1, dtype=np.float32)})).tolist() == [[1.0]]
