"""Models of other formats than scikit-learn's, from `kubectl apply` to a prediction through the gateway."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.box import Box
from tests.e2e.manifests import isvc

pytestmark = pytest.mark.e2e
READY_S = 90
ROWS = [[1.0, 2.0], [3.0, 4.0]]
DOUBLED = """
import torch

class PyTorchModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.factor
"""


def needs(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


@pytest.fixture
def onnx_model(tmp_path: Path) -> Path:
    """A graph that doubles rows of two numbers, in the folders of a Triton repository."""
    needs("onnx")
    needs("onnxruntime")
    import onnx
    from onnx import helper

    def rows(name: str) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 2])

    two = onnx.numpy_helper.from_array(np.array(2, dtype=np.float32), "two")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "double", [rows("x")], [rows("y")], [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = tmp_path / "repository" / "doubling"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(model.SerializeToString())
    return folder


@pytest.fixture
def torch_model(tmp_path: Path) -> Path:
    """Weights that double rows, beside their class."""
    needs("torch")
    import torch

    folder = tmp_path / "torch"
    folder.mkdir()
    torch.save({"factor": torch.tensor([2.0])}, folder / "model.pt")
    (folder / "model.py").write_text(DOUBLED)
    return folder


def v2_body(rows: list[list[float]]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": rows}]}


@pytest.mark.parametrize("runtime", [None, "kserve-tritonserver"])
def test_a_graph_of_onnx(box: Box, onnx_model: Path, runtime: str | None) -> None:
    """By its format, and by the runtime that KServe has for it, from a Triton repository."""
    folder = onnx_model.parent if runtime else onnx_model
    name = "named-graph" if runtime else "doubling-graph"
    manifest = isvc(name, folder.as_uri(), model_format="onnx")
    manifest["spec"]["predictor"]["model"] |= {"runtime": runtime} if runtime else {}
    box.client.apply(manifest)
    box.client.wait_ready(name, timeout_s=READY_S)
    assert box.client.predict(name, v2_body(ROWS))["outputs"][0]["data"] == [2, 4, 6, 8]
    if not runtime:
        assert box.client.predict(name, {"instances": ROWS}) == {"predictions": [[2, 4], [6, 8]]}
    box.client.delete(name)


def test_weights_of_pytorch_with_their_class(box: Box, torch_model: Path) -> None:
    manifest = isvc("doubling-net", torch_model.as_uri(), model_format="pytorch")
    manifest["spec"]["predictor"]["model"]["env"] = [{"name": "LADLE_TORCH_INPUTS", "value": "x:FP32:-1,2"}]
    box.client.apply(manifest)
    box.client.wait_ready("doubling-net", timeout_s=READY_S)
    assert box.client.predict("doubling-net", {"instances": ROWS}) == {"predictions": [[2, 4], [6, 8]]}
    assert box.client.predict("doubling-net", v2_body(ROWS))["outputs"][0]["data"] == [2, 4, 6, 8]
    box.client.delete("doubling-net")


def test_a_class_of_the_users_own(box: Box, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("FACTOR = 2\n")
    (tmp_path / "model.py").write_text(
        "from ladle import Model\n\nfrom .parts import FACTOR\n\n\nclass Doubler(Model):\n"
        "    def predict(self, request):\n        return request.as_array() * FACTOR\n"
    )
    box.client.apply(isvc("doubling-class", tmp_path.as_uri(), model_format="python"))
    box.client.wait_ready("doubling-class", timeout_s=READY_S)
    assert box.client.predict("doubling-class", {"instances": ROWS}) == {"predictions": [[2, 4], [6, 8]]}
    assert box.client.predict("doubling-class", v2_body(ROWS))["outputs"][0]["data"] == [2, 4, 6, 8]
    box.client.delete("doubling-class")
