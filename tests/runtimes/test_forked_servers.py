"""Servers that are forked from a template with their libraries imported: no thread before the fork, answers after it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtimes.forking import Forked, forked, threads_of

WIDTH = 512
"""Wide enough that PyTorch and onnxruntime divide one product among threads."""


def predict(server: Forked, rows: list[list[float]]) -> Any:
    body = json.dumps({"instances": rows}).encode()
    with urllib.request.urlopen(f"{server.url}/v1/models/m:predict", body, timeout=60) as answer:
        return json.loads(answer.read())["predictions"]


def properties(server: Forked) -> dict[str, str]:
    with urllib.request.urlopen(f"{server.url}/v2/models/m", timeout=60) as answer:
        found: dict[str, str] = json.loads(answer.read())["properties"]
        return found


def save_torch(directory: Path) -> None:
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; .ci/test-torch installs it where it can be had"
    )
    from tests.runtimes.torch_models import save_script

    layer = torch.nn.Linear(WIDTH, WIDTH, bias=False)
    torch.nn.init.eye_(layer.weight)
    save_script(torch.nn.Sequential(layer), directory)


def save_onnx(directory: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def rows(name: str) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, WIDTH])

    weights = onnx.numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "w")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [rows("x")], [rows("y")], [weights])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(made.SerializeToString())


@pytest.mark.parametrize(
    ("template", "runtime", "save", "env"),
    [
        ("pytorchserver", "pytorchserver", save_torch, {"OMP_NUM_THREADS": "2"}),
        ("tabular", "onnxserver", save_onnx, {"LADLE_ONNX_INTRA_OP_THREADS": "2"}),
    ],
)
def test_a_forked_server_predicts_with_threads_of_its_own(
    tmp_path: Path, template: str, runtime: str, save: Any, env: dict[str, str]
) -> None:
    save(tmp_path / "model")
    with forked(template, runtime, tmp_path / "model", tmp_path, env) as server:
        assert server.template_threads == 1
        rows = np.arange(64 * WIDTH, dtype=np.float64).reshape(64, WIDTH).tolist()
        assert predict(server, rows) == rows
        assert threads_of(server.pid) > 1
        assert properties(server).get("threads", "2") == "2"
