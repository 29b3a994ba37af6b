"""The ONNX runtime's own: providers, inputs by name, types, Triton's folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from ladle.errors import BadModel, UserError
from ladle.protocol.tensor import raw_of, tensor_of
from runtimes.onnxserver.binding import can_bind, needs_binding
from runtimes.onnxserver.model import EXTENSIONS, OnnxModel
from runtimes.onnxserver.providers import CPU, CUDA, TENSORRT, ProviderChoice, decide_providers
from runtimes.onnxserver.sessions import open_session, session_options
from runtimes.version_folders import newest_version
from tests.ladle.server.serving import served, tensor
from tests.runtimes.test_conformance import TestOnnxWithExternalData as WithExternalData

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


Values = dict[str, tuple[str, list[Any]]]
"""Name to type and shape."""


def save(
    directory: Path, nodes: list[Any], inputs: Values, outputs: Values, *, opset: int = 17, ir_version: int = 9
) -> Path:
    def info(described: Values) -> list[Any]:
        kinds = onnx.TensorProto
        return [onnx.helper.make_tensor_value_info(n, getattr(kinds, k), s) for n, (k, s) in described.items()]

    graph = onnx.helper.make_graph(nodes, "g", info(inputs), info(outputs))
    operators = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("my.ops", 1)]
    model = onnx.helper.make_model(graph, opset_imports=operators, ir_version=ir_version)
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

    async def test_inputs_that_do_not_go_together_are_a_400(self, adder: OnnxModel) -> None:
        inputs = [tensor("a", "FP32", [2, 2], [1, 2, 3, 4]), tensor("b", "FP32", [3, 2], [1, 2, 3, 4, 5, 6])]
        async with served(adder) as app:
            answer = await app.v2("m", {"inputs": inputs})
        assert (answer.status, "broadcast" in answer.text, "[ONNXRuntimeError]" in answer.text) == (400, True, False)

    async def test_rows_of_maps_are_a_table(self, tmp_path: Path) -> None:
        """As skl2onnx writes probabilities unless told otherwise."""
        skl2onnx = pytest.importorskip("skl2onnx")
        features, labels = load_iris(return_X_y=True)
        fitted = LogisticRegression(max_iter=1000).fit(features, labels)
        kind = skl2onnx.common.data_types.FloatTensorType([None, 4])
        made = skl2onnx.to_onnx(fitted, initial_types=[("x", kind)])
        (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
        rows = features[::50].astype(np.float32)
        item = tensor("x", "FP32", [3, 4], rows.reshape(-1).tolist())
        async with served(OnnxModel("m", tmp_path)) as app:
            metadata = json.loads((await app.get("/v2/models/m")).body)
            body = {"inputs": [item], "outputs": [{"name": "output_probability"}]}
            (output,) = json.loads((await app.v2("m", body)).body)["outputs"]
        assert metadata["outputs"][1] == tensor("output_probability", "FP32", [-1, -1])
        np.testing.assert_allclose(
            np.reshape(output["data"], output["shape"]), fitted.predict_proba(rows), rtol=1e-4, atol=1e-6
        )

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
        assert newest_version(tmp_path, EXTENSIONS) == tmp_path / "10"
        (tmp_path / "model.onnx").touch()
        assert newest_version(tmp_path, EXTENSIONS) == tmp_path

    def test_a_repository_with_one_model_is_that_model(self, tmp_path: Path) -> None:
        (tmp_path / "resnet" / "3").mkdir(parents=True)
        (tmp_path / "docs").mkdir()
        assert newest_version(tmp_path, EXTENSIONS) == tmp_path / "resnet" / "3"
        (tmp_path / "other" / "1").mkdir(parents=True)
        assert newest_version(tmp_path, EXTENSIONS) == tmp_path

    def test_a_broken_graph_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(b"nope")
        with pytest.raises(BadModel, match=r"model\.onnx: "):
            OnnxModel("m", tmp_path).load()

    @pytest.mark.parametrize(
        ("operator", "domain", "versions", "expected"),
        [
            (
                "Identity",
                "",
                {"opset": 99},
                r"it needs opset 99, and onnxruntime \S+ knows \d+: export it with opset_version=",
            ),
            ("Identity", "", {"ir_version": 99}, r"its IR version is 99, and onnxruntime \S+ reads up to \d+"),
            ("Fold", "my.ops", {}, r"its operator my\.ops:Fold is not in onnxruntime \S+; operators of one's own"),
            ("Nope", "", {}, r"its operator Nope is not in onnxruntime \S+ at opset 17"),
        ],
    )
    def test_what_onnxruntime_does_not_know_says_what_to_do(
        self, tmp_path: Path, operator: str, domain: str, versions: dict[str, int], expected: str
    ) -> None:
        node = onnx.helper.make_node(operator, ["x"], ["y"], domain=domain)
        save(tmp_path, [node], {"x": ("FLOAT", [1])}, {"y": ("FLOAT", [1])}, **versions)
        with pytest.raises(BadModel, match=rf"model\.onnx: {expected}"):
            OnnxModel("m", tmp_path).load()

    @pytest.mark.parametrize(
        ("left_bytes", "expected"),
        [
            (None, r"its external data file weights\.data is missing; it belongs beside the \.onnx file"),
            (10, "its external data file is too short for the tensor w"),
        ],
    )
    def test_external_data_that_is_not_whole_is_named(
        self, tmp_path: Path, left_bytes: int | None, expected: str
    ) -> None:
        WithExternalData().subject(tmp_path)
        weights = tmp_path / "weights.data"
        weights.unlink() if left_bytes is None else weights.write_bytes(weights.read_bytes()[:left_bytes])
        with pytest.raises(BadModel, match=expected):
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

    async def test_a_wish_that_cannot_be_met_falls_back_and_shows_in_metadata_log_and_metrics(
        self, adder: OnnxModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = OnnxModel("m", tmp_path, env={"LADLE_ONNX_PROVIDER": "tensorrt"}, available=[CPU])
        async with served(model) as app:
            properties = json.loads((await app.get("/v2/models/m")).body)["properties"]
            page = (await app.get("/metrics")).text
        reason = "TensorrtExecutionProvider is not in the installed onnxruntime, which has CPUExecutionProvider"
        assert properties["device_reason"].startswith(reason)
        assert "provider fell back" in "".join(capsys.readouterr())
        assert 'ladle_model_device{device="cpu",fallback="true",model_name="m"} 1.0' in page

    @pytest.mark.filterwarnings("ignore:Specified provider")
    async def test_a_provider_that_does_not_start_falls_back_and_says_why(
        self, adder: OnnxModel, tmp_path: Path
    ) -> None:
        """As onnxruntime-gpu does on a machine without CUDA's libraries: listed, and left out of the session."""
        if CUDA in pytest.importorskip("onnxruntime").get_available_providers():
            pytest.skip("CUDA may start here")
        model = OnnxModel("m", tmp_path, available=[CUDA, CPU])
        async with served(model) as app:
            properties = json.loads((await app.get("/v2/models/m")).body)["properties"]
            inputs = [tensor(name, "FP32", [1, 2], [1, 2]) for name in "ab"]
            assert (await app.v2("m", {"inputs": inputs})).status == 200
        assert (properties["provider"], properties["device"]) == (CPU, "cpu")
        assert properties["device_reason"].startswith(f"onnxruntime could not start {CUDA}")

    def test_a_provider_that_fails_is_replaced_by_the_cpu(self) -> None:
        class Library:
            __version__ = "1.0"

            class InferenceSession:
                def __init__(self, path: str, options: Any, providers: list[str]) -> None:
                    if providers[0] != CPU:
                        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 35: driver too old")
                    self.get_providers = lambda: providers

        _, choice = open_session(Library, Path("m.onnx"), None, ProviderChoice((CUDA, CPU)))
        assert choice == ProviderChoice((CPU,), f"{CUDA} failed: CUDA failure 35: driver too old")


class TestBinding:
    @pytest.mark.parametrize(
        ("kinds", "device", "can", "needs"),
        [
            (["tensor(float)"], "cpu", True, False),
            (["tensor(float)"], "cuda", True, True),
            (["tensor(bfloat16)", "tensor(float)"], "cpu", True, True),
            (["tensor(string)"], "cuda", False, True),
            (["seq(map(int64,tensor(float)))"], "cuda", False, True),
        ],
    )
    def test_what_is_bound(self, kinds: list[str], device: str, can: bool, needs: bool) -> None:
        assert (can_bind(kinds), needs_binding(kinds, device=device)) == (can, needs)

    async def test_bound_answers_are_the_same(self, adder: OnnxModel, tmp_path: Path) -> None:
        bound = OnnxModel("bound", tmp_path, env={"LADLE_ONNX_IO_BINDING": "true"})
        inputs = [tensor("b", "FP32", [2, 2], [10, 20, 30, 40]), tensor("a", "FP32", [2, 2], [1, 2, 3, 4])]
        async with served(adder, bound) as app:
            for name, binding in (("m", "false"), ("bound", "true")):
                metadata = json.loads((await app.get(f"/v2/models/{name}")).body)
                assert metadata["properties"]["io_binding"] == binding
                answer = await app.v2(name, {"inputs": inputs, "outputs": [{"name": "sum"}]})
                assert json.loads(answer.body)["outputs"] == [tensor("sum", "FP32", [2, 2], [11, 22, 33, 44])]

    @pytest.mark.parametrize(("kind", "datatype"), [("BFLOAT16", "BF16"), ("FLOAT16", "FP16")])
    async def test_half_precision_goes_in_and_comes_out(self, tmp_path: Path, kind: str, datatype: str) -> None:
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        model = OnnxModel("m", save(tmp_path, [node], {"x": (kind, [None])}, {"y": (kind, [None])}))
        raw = bytes(raw_of(tensor_of("x", np.array([1.5, -2.0]), datatype)))
        head = json.dumps(
            {
                "inputs": [tensor("x", datatype, [2], binary_data_size=len(raw))],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        async with served(model) as app:
            answer = await app.v2("m", head + raw, Inference_Header_Content_Length=str(len(head)))
            assert (await app.v1("m", {"instances": [1.5, 2]})).text == '{"predictions":[1.5,2.0]}'
        length = int(answer.headers["inference-header-content-length"])
        assert answer.body[length:] == raw


class TestSettings:
    def test_an_unknown_level_is_refused(self, adder: OnnxModel, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="LADLE_ONNX_OPTIMIZATION = fast, must be one of all, extended, basic, dis"):
            OnnxModel("m", tmp_path, env={"LADLE_ONNX_OPTIMIZATION": "fast"}).load()

    def test_options_follow_the_environment(self) -> None:
        library = pytest.importorskip("onnxruntime")
        options = session_options(library, {"LADLE_ONNX_INTER_OP_THREADS": "2"}, threads=3)
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
        assert options.execution_mode == library.ExecutionMode.ORT_PARALLEL
        options = session_options(library, {"LADLE_ONNX_OPTIMIZATION": "disable"}, threads=1)
        assert options.graph_optimization_level == library.GraphOptimizationLevel.ORT_DISABLE_ALL

    def test_it_keeps_to_itself(self) -> None:
        """No thread that sends events to Microsoft, nor one that a fork would lose."""
        code = "import os, runtimes.onnxserver.preload; print(len(os.listdir('/proc/self/task')))"
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "1"
