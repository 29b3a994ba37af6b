"""The PyTorch runtime's own: names, datatypes, several inputs and outputs, files that do not fit, warm-up, compilation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; .ci/test-torch installs it where it can be had")

from ladle.errors import BadModel  # noqa: E402  # They need torch.
from ladle.protocol.tensor import raw_of, tensor_of  # noqa: E402
from runtimes.pytorchserver.model import TorchModel  # noqa: E402
from runtimes.pytorchserver.settings import TorchSettings, parse_inputs  # noqa: E402
from tests.ladle.server.serving import Served, served, tensor  # noqa: E402
from tests.ladle.server.wire import Answer  # noqa: E402
from tests.runtimes.conformance import decode_raw  # noqa: E402
from tests.runtimes.torch_models import save_export, save_script, save_weights  # noqa: E402


class Join(torch.nn.Module):
    """Two inputs and an optional third; a dict of outputs, one of them nested."""

    def forward(self, left, right, scale=None):  # type: ignore[no-untyped-def]
        both = left + right
        if scale is not None:
            both = both * scale
        return {"sum": both, "parts": (left, right)}


JOIN = """
import torch

class Join(torch.nn.Module):
    def forward(self, left, right, scale=None):
        both = left + right if scale is None else (left + right) * scale
        return {"sum": both, "parts": (left, right)}
"""
PAIR = [tensor("left", "FP32", [1, 2], [1, 2]), tensor("right", "FP32", [1, 2], [10, 20])]


@pytest.fixture
def join(tmp_path: Path) -> TorchModel:
    save_weights(Join(), tmp_path, JOIN)
    return TorchModel("m", tmp_path, settings=TorchSettings(model_class="Join"))


def outputs(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.text
    return {output["name"]: output["data"] for output in json.loads(answer.body)["outputs"]}


def error(answer: Answer) -> str:
    assert answer.status == 400, answer.text
    return str(json.loads(answer.body)["error"])


class TestInputs:
    async def test_v2_takes_them_by_name_in_any_order(self, join: TorchModel) -> None:
        async with served(join) as app:
            found = outputs(await app.v2("m", {"inputs": PAIR[::-1]}))
        assert found == {"sum": [11, 22], "parts.0": [1, 2], "parts.1": [10, 20]}

    @pytest.mark.parametrize("names", [("input-1", "input-0"), ("INPUT__1", "INPUT__0"), ("input_1", "left")])
    async def test_v2_takes_them_by_position_where_their_names_count(
        self, join: TorchModel, names: tuple[str, str]
    ) -> None:
        inputs = [tensor(names[0], "FP32", [1, 2], [10, 20]), tensor(names[1], "FP32", [1, 2], [1, 2])]
        async with served(join) as app:
            assert outputs(await app.v2("m", {"inputs": inputs}))["parts.0"] == [1, 2]

    async def test_optional_ones_may_be_left_out_or_given(self, join: TorchModel) -> None:
        inputs = [*PAIR, tensor("scale", "FP32", [1], [2])]
        async with served(join) as app:
            assert outputs(await app.v2("m", {"inputs": inputs}))["sum"] == [22, 44]

    @pytest.mark.parametrize(
        ("inputs", "expected"),
        [
            (PAIR[:1], "inputs are ['left'], expected ['left', 'right'], and may have ['scale']"),
            ([*PAIR, tensor("up", "FP32", [1], [1])], "inputs are ['left', 'right', 'up'], expected ['left', 'right']"),
            ([*PAIR, tensor("input-0", "FP32", [1], [1])], "which names one of the model's twice"),
            ([PAIR[0], tensor("input-7", "FP32", [1], [1])], "inputs are ['input-7', 'left'], expected"),
            ([PAIR[0], tensor("right", "BYTES", [1], ["x"])], "input 'right': expected numbers, got BYTES"),
            ([PAIR[0], tensor("right", "FP32", [1, 3], [1, 2, 3])], "must match the size of tensor"),
        ],
    )
    async def test_what_does_not_fit_is_a_400(self, join: TorchModel, inputs: list[Any], expected: str) -> None:
        async with served(join) as app:
            assert expected in error(await app.v2("m", {"inputs": inputs}))

    async def test_an_unknown_output_is_a_400(self, join: TorchModel) -> None:
        async with served(join) as app:
            answer = await app.v2("m", {"inputs": PAIR, "outputs": [{"name": "nope"}]})
        assert "output 'nope' is unknown, the model has ['sum', 'parts.0', 'parts.1']" in error(answer)

    async def test_v1_rows_are_objects_where_there_are_several(self, join: TorchModel) -> None:
        rows = [{"left": [1, 2], "right": [3, 4]}, {"left": [5, 6], "right": [7, 8]}]
        async with served(join) as app:
            found = json.loads((await app.v1("m", {"instances": rows})).body)["predictions"]
            assert [row["sum"] for row in found] == [[4, 6], [12, 14]]
            assert "every instance must be an object with ['left', 'right']" in error(
                await app.v1("m", {"instances": [[1, 2]]})
            )
            assert "instances differ" in error(await app.v1("m", {"instances": [rows[0], {"left": [1, 2]}]}))
            assert "expected numbers" in error(await app.v1("m", {"instances": [{"left": "a", "right": [1]}]}))

    async def test_a_model_cannot_write_into_the_request(self, tmp_path: Path) -> None:
        class InPlace(torch.nn.Module):
            def forward(self, x):  # type: ignore[no-untyped-def]
                return x.add_(1)

        save_script(InPlace(), tmp_path)
        raw = bytes(raw_of(tensor_of("x", np.zeros((1, 2), np.float32))))
        async with served(TorchModel("m", tmp_path)) as app:
            for _ in range(2):
                assert (await ask_binary(app, "x", "FP32", [1, 2], raw)).tolist() == [[1, 1]]

    async def test_integers_of_v1_become_the_weights_type_unless_the_model_looks_things_up(
        self, tmp_path: Path
    ) -> None:
        save_script(torch.nn.Sequential(torch.nn.Linear(2, 1)).double(), tmp_path / "linear")
        save_script(torch.nn.Sequential(torch.nn.Embedding(5, 2)), tmp_path / "table")
        async with served(TorchModel("linear", tmp_path / "linear"), TorchModel("table", tmp_path / "table")) as app:
            assert (await app.v1("linear", {"instances": [[1, 2]]})).status == 200
            assert (await app.v1("table", {"instances": [[1, 2]]})).status == 200
            assert "index out of range" in error(await app.v1("table", {"instances": [[9]]}))
            assert "ragged" in error(await app.v1("linear", {"instances": [[1, 2], [1]]}))


async def ask_binary(app: Served, name: str, datatype: str, shape: list[int], raw: bytes) -> np.ndarray:
    head = json.dumps(
        {
            "inputs": [tensor(name, datatype, shape, binary_data_size=len(raw))],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    answer = await app.v2("m", head + raw, Inference_Header_Content_Length=str(len(head)))
    assert answer.status == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert output["datatype"] == datatype
    found: np.ndarray = decode_raw(output["datatype"], output["shape"], answer.body[length:])
    return found


class Same(torch.nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return x


class TestDatatypes:
    @pytest.mark.parametrize(
        "datatype",
        [
            "BOOL",
            "INT8",
            "INT16",
            "INT32",
            "INT64",
            "UINT8",
            "UINT16",
            "UINT32",
            "UINT64",
            "FP16",
            "BF16",
            "FP32",
            "FP64",
        ],
    )
    async def test_each_goes_in_and_comes_out(self, tmp_path: Path, datatype: str) -> None:
        save_script(Same(), tmp_path)
        values = [0, 1, 1] if datatype == "BOOL" else [0, 1, 100]
        raw = bytes(raw_of(tensor_of("x", np.array(values), datatype)))
        async with served(TorchModel("m", tmp_path)) as app:
            assert (await ask_binary(app, "x", datatype, [3], raw)).tolist() == values

    @pytest.mark.parametrize(("half", "datatype"), [(torch.float16, "FP16"), (torch.bfloat16, "BF16")])
    async def test_a_model_in_half_precision(self, tmp_path: Path, half: Any, datatype: str) -> None:
        layer = torch.nn.Linear(2, 1).to(half)
        save_export(layer, tmp_path, (torch.ones(2, 2, dtype=half),), {"input": {0: torch.export.Dim("rows")}})
        expected = layer(torch.tensor([[1.0, 2.0]], dtype=half)).item()
        async with served(TorchModel("m", tmp_path)) as app:
            metadata = json.loads((await app.get("/v2/models/m")).body)
            assert metadata["inputs"] == [{"name": "input", "datatype": datatype, "shape": [-1, 2]}]
            v1 = await app.v1("m", {"instances": [[1, 2]]})
            assert json.loads(v1.body)["predictions"] == [[pytest.approx(expected)]]
            raw = bytes(raw_of(tensor_of("input", np.array([[1, 2]]), datatype)))
            assert (await ask_binary(app, "input", datatype, [1, 2], raw)).item() == pytest.approx(expected)

    async def test_numbers_without_a_datatype_in_the_protocol_are_the_models_failure(self, tmp_path: Path) -> None:
        class Complex(torch.nn.Module):
            def forward(self, x):  # type: ignore[no-untyped-def]
                return torch.complex(x, x)

        save_script(Complex(), tmp_path)
        async with served(TorchModel("m", tmp_path)) as app:
            answer = await app.v1("m", {"instances": [1.0]})
        assert (answer.status, "output 'output-0' is torch.complex64" in answer.text) == (500, True)


class TestExport:
    def save(self, directory: Path) -> TorchModel:
        rows = torch.export.Dim("rows", max=8)
        example = (torch.ones(2, 2), torch.ones(2, 2))
        return TorchModel("m", save_export(Join(), directory, example, {"left": {0: rows}, "right": {0: rows}}))

    async def test_metadata_have_names_datatypes_and_shapes(self, tmp_path: Path) -> None:
        async with served(self.save(tmp_path)) as app:
            metadata = json.loads((await app.get("/v2/models/m")).body)
        assert metadata["platform"] == "pytorch"
        assert metadata["inputs"] == [
            {"name": "left", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "right", "datatype": "FP32", "shape": [-1, 2]},
        ]
        assert [(found["name"], found["shape"]) for found in metadata["outputs"]] == [
            ("sum", [-1, 2]),
            ("parts.0", [-1, 2]),
            ("parts.1", [-1, 2]),
        ]

    @pytest.mark.parametrize(
        ("left", "expected"),
        [
            (tensor("left", "FP64", [1, 2], [1, 2]), "input 'left': datatype FP64, expected FP32"),
            (tensor("left", "FP32", [1, 3], [1, 2, 3]), "input 'left': shape [1, 3], expected [-1, 2]"),
            (tensor("left", "FP32", [2], [1, 2]), "input 'left': shape [2], expected [-1, 2]"),
            (tensor("left", "FP32", [2, 2], [1, 2, 3, 4]), "Guard failed"),
        ],
    )
    async def test_what_does_not_fit_is_a_400(self, tmp_path: Path, left: Any, expected: str) -> None:
        async with served(self.save(tmp_path)) as app:
            assert expected in error(await app.v2("m", {"inputs": [left, PAIR[1]]}))

    async def test_more_rows_than_it_was_exported_for_are_a_400(self, tmp_path: Path) -> None:
        rows = [{"left": [1, 2], "right": [1, 2]}] * 9
        async with served(self.save(tmp_path)) as app:
            assert (await app.v1("m", {"instances": rows[:8]})).status == 200
            assert "<= 8" in error(await app.v1("m", {"instances": rows}))

    async def test_fixed_arguments_stay_as_they_were_exported(self, tmp_path: Path) -> None:
        class Power(torch.nn.Module):
            def forward(self, x, exponent: int, names: Mapping[str, Any]):  # type: ignore[no-untyped-def]
                return x**exponent + names["shift"]

        save_export(Power(), tmp_path, (torch.ones(2), 3, {"shift": torch.ones(2)}))
        inputs = [tensor("x", "FP32", [2], [1, 2]), tensor("names_shift", "FP32", [2], [10, 20])]
        async with served(TorchModel("m", tmp_path)) as app:
            assert outputs(await app.v2("m", {"inputs": inputs})) == {"output-0": [11, 28]}

    def test_the_ending_does_not_matter(self, tmp_path: Path) -> None:
        model = self.save(tmp_path)
        (tmp_path / "model.pt2").rename(tmp_path / "model.pt")
        model.load()
        assert model.metadata().properties["archive"] == "export"


class TestTorchScript:
    async def test_names_and_outputs_come_from_its_signature(self, tmp_path: Path) -> None:
        class Two(torch.nn.Module):
            def forward(self, x: torch.Tensor, times: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
                return x * times, x.sum(1)

        save_script(Two(), tmp_path)
        async with served(TorchModel("m", tmp_path)) as app:
            metadata = json.loads((await app.get("/v2/models/m")).body)
            assert [found["name"] for found in metadata["inputs"]] == ["x", "times"]
            assert [found["name"] for found in metadata["outputs"]] == ["output-0", "output-1"]
            assert "LADLE_TORCH_INPUTS declares them" in metadata["properties"]["inputs"]
            answer = await app.v1("m", {"instances": [[1, 2], [3, 4]]})
            assert json.loads(answer.body)["predictions"] == [
                {"output-0": [2, 4], "output-1": 3},
                {"output-0": [6, 8], "output-1": 7},
            ]
            three = [tensor("x", "FP32", [1, 2], [1, 2]), tensor("times", "INT64", [1], [3])]
            assert outputs(await app.v2("m", {"inputs": three}))["output-0"] == [3, 6]
            three[1] = tensor("times", "INT64", [2], [3, 3])
            assert "input 'times': shape [2], expected one number" in error(await app.v2("m", {"inputs": three}))

    async def test_outputs_that_disagree_about_the_rows_go_by_name_in_v1(self, tmp_path: Path) -> None:
        class Loss(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
                return {"y": x, "loss": x.sum()}

        save_script(Loss(), tmp_path)
        async with served(TorchModel("m", tmp_path)) as app:
            answer = await app.v1("m", {"instances": [1.0, 2.0]})
        assert json.loads(answer.body) == {"predictions": {"y": [1, 2], "loss": [3]}}

    def test_inputs_that_no_request_carries_are_refused(self, tmp_path: Path) -> None:
        class Listed(torch.nn.Module):
            def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
                return parts[0]

        save_script(Listed(), tmp_path)
        with pytest.raises(BadModel, match=r"forward takes 'parts' as List\[Tensor\].*wrap the model"):
            TorchModel("m", tmp_path).load()


class TestDeclaredInputs:
    def model(self, directory: Path, inputs: str, **settings: Any) -> TorchModel:
        save_script(torch.nn.Sequential(torch.nn.Linear(4, 3)), directory)
        return TorchModel("m", directory, settings=TorchSettings(inputs=parse_inputs(inputs), **settings))

    async def test_they_are_checked_and_shown_and_outputs_are_learnt(self, tmp_path: Path) -> None:
        async with served(self.model(tmp_path, "input:FP32:-1,4")) as app:
            metadata = json.loads((await app.get("/v2/models/m")).body)
            assert metadata["inputs"] == [tensor("input", "FP32", [-1, 4])]
            assert metadata["outputs"] == [tensor("output-0", "FP32", [-1, 3])]
            assert "shape [1, 5], expected [-1, 4]" in error(await app.v1("m", {"instances": [[1, 2, 3, 4, 5]]}))

    @pytest.mark.parametrize(
        ("inputs", "expected"),
        [
            ("input:FP32:-1,5", r"LADLE_TORCH_INPUTS does not fit the model: mat1 and mat2"),
            ("x:FP32:-1,4", r"LADLE_TORCH_INPUTS names \['x'\], the model has \['input'\]"),
        ],
    )
    def test_wrong_ones_are_found_at_load(self, tmp_path: Path, inputs: str, expected: str) -> None:
        with pytest.raises(BadModel, match=expected):
            self.model(tmp_path, inputs).load()

    def test_a_warm_up_needs_shapes(self, tmp_path: Path) -> None:
        self.model(tmp_path, "input:FP32:-1,4", warm_up=2).load()
        with pytest.raises(BadModel, match=r"LADLE_TORCH_WARMUP needs the shapes .*: set LADLE_TORCH_INPUTS"):
            self.model(tmp_path, "", warm_up=2).load()


class TestCompilation:
    def model(self, directory: Path, backend: str) -> TorchModel:
        layer = torch.nn.Linear(4, 3)
        rows = torch.export.Dim("rows")
        save_export(layer, directory, (torch.ones(2, 4),), {"input": {0: rows}})
        return TorchModel("m", directory, settings=TorchSettings(compiler=backend))

    async def test_a_compiled_model_answers_for_any_number_of_rows(self, tmp_path: Path) -> None:
        async with served(self.model(tmp_path, "eager")) as app:
            for count in (1, 2, 5):
                answer = await app.v1("m", {"instances": [[1, 2, 3, 4]] * count})
                assert len(json.loads(answer.body)["predictions"]) == count
            properties = json.loads((await app.get("/v2/models/m")).body)["properties"]
        assert properties["compiler"] == "eager"

    def test_what_cannot_be_compiled_is_served_as_it_is_and_says_why(self, tmp_path: Path) -> None:
        model = self.model(tmp_path / "export", "no-such-backend")
        model.load()
        assert model.metadata().properties["compiler"] == "none"
        assert "no-such-backend" in model.metadata().properties["compiler_reason"]
        save_script(Same(), tmp_path / "script")
        script = TorchModel("m", tmp_path / "script", settings=TorchSettings(compiler="eager"))
        script.load()
        assert "its own interpreter" in script.metadata().properties["compiler_reason"]

    def test_it_needs_shapes(self, tmp_path: Path) -> None:
        save_weights(Join(), tmp_path, JOIN)
        with pytest.raises(BadModel, match="LADLE_TORCH_COMPILE needs the shapes"):
            TorchModel("m", tmp_path, settings=TorchSettings(model_class="Join", compiler="eager")).load()


THREADS = """
import torch

class PyTorchModel(torch.nn.Module):
    def forward(self, x):
        return x.new_tensor([torch.get_num_threads()])
"""


class TestMachine:
    async def test_a_gpu_that_is_not_there_shows_in_metadata_log_and_metrics(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        save_script(Same(), tmp_path)
        async with served(TorchModel("m", tmp_path, settings=TorchSettings(device="cuda:99"))) as app:
            properties = json.loads((await app.get("/v2/models/m")).body)["properties"]
            assert (await app.v1("m", {"instances": [1.0]})).status == 200
            page = (await app.get("/metrics")).text
        assert properties["device"] == "cpu"
        assert properties["device_reason"]
        assert "device fell back" in "".join(capsys.readouterr())
        assert 'ladle_model_device{device="cpu",fallback="true",model_name="m"} 1.0' in page

    async def test_threads_are_those_of_the_settings(self, tmp_path: Path) -> None:
        save_weights(torch.nn.Module(), tmp_path, THREADS)
        for threads in (1, 2):
            async with served(TorchModel("m", tmp_path, settings=TorchSettings(threads=threads))) as app:
                answer = await app.v1("m", {"instances": [1.0]})
            assert json.loads(answer.body) == {"predictions": [threads]}
