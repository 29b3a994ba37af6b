"""How long a model server takes from its start to its first answer, as an ordinary process and forked from its template.

`python -m benchmarks start`. What the node does, without the node: the same template module, the same preloads.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import memory
from onebox.node.images import PRELOADS, RUNTIMES

ROUNDS = 7
DEADLINE_S = 120.0
POLL_S = 0.002
BODY = json.dumps({"instances": [[0.1, 0.2, 0.3, 0.4]]}).encode()


@dataclass(frozen=True)
class Case:
    """One runtime with a small model of four numbers a row."""

    server: str
    library: str
    save: Callable[[Path], None]


def save_sklearn(directory: Path) -> None:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), directory / "model.joblib")


def save_onnx(directory: Path) -> None:
    import numpy as np
    import onnx

    def rows(name: str, width: int) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, width])

    weights = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [rows("x", 4)], [rows("y", 3)], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (directory / "model.onnx").write_bytes(model.SerializeToString())


def save_torch(directory: Path) -> None:
    import torch

    rows = torch.export.Dim("rows")
    exported = torch.export.export(torch.nn.Linear(4, 3), (torch.ones(2, 4),), dynamic_shapes={"input": {0: rows}})
    torch.export.save(exported, str(directory / "model.pt2"))


def save_torchscript(directory: Path) -> None:
    import torch

    torch.jit.save(torch.jit.trace(torch.nn.Linear(4, 3), torch.ones(2, 4)), str(directory / "model.pt"))


CASES = {
    "scikit-learn": Case("sklearnserver", "sklearn", save_sklearn),
    "ONNX": Case("onnxserver", "onnx", save_onnx),
    "PyTorch, TorchScript": Case("pytorchserver", "torch", save_torchscript),
    "PyTorch, torch.export": Case("pytorchserver", "torch", save_torch),
}


def main() -> None:
    print("| model | ordinary process, ms | forked, ms | template, MiB | forked server (proportional), MiB |")
    print("|---|---|---|---|---|")
    for name, case in CASES.items():
        if importlib.util.find_spec(case.library) is None:
            print(f"| {name} | {case.library} is not installed |")
            continue
        with tempfile.TemporaryDirectory() as root:
            directory = Path(root)
            (directory / "model").mkdir()
            case.save(directory / "model")
            cold_ms = [start_ordinary(case, directory) for _ in range(ROUNDS)]
            with template(case, directory) as (connection, pid):
                forks = [start_forked(case, directory, connection, str(number)) for number in range(2 * ROUNDS)]
                resident, _ = memory(pid)
        forked_ms, own = [took for took, _ in forks], statistics.median(mib for _, mib in forks)
        print(f"| {name} | {shown(cold_ms)} | {shown(forked_ms)} | {resident:.0f} | {own:.0f} |", flush=True)


def shown(took_ms: list[float]) -> str:
    return f"{statistics.median(took_ms):.0f} ({min(took_ms):.0f}-{max(took_ms):.0f})"


def start_ordinary(case: Case, directory: Path) -> float:
    """Milliseconds to the first answer."""
    port = free_port()
    module = RUNTIMES[case.server].module
    command = [sys.executable, "-m", module, "--model_name=m", f"--model_dir={directory / 'model'}"]
    began_s = time.perf_counter()
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment(port), stdout=log, stderr=log)
    try:
        wait_for_answer(port)
        return 1000 * (time.perf_counter() - began_s)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def start_forked(case: Case, directory: Path, connection: socket.socket, name: str) -> tuple[float, float]:
    """Milliseconds to the first answer, and the proportional memory of the server in MiB."""
    port = free_port()
    request = {
        "id": name,
        "module": RUNTIMES[case.server].module,
        "argv": ["--model_name=m", f"--model_dir={directory / 'model'}"],
        "env": environment(port),
        "cwd": "/",
    }
    began_s = time.perf_counter()
    with (directory / "log").open("ab") as log:
        socket.send_fds(connection, [json.dumps(request).encode()], [log.fileno()] * 2)
        pid = int(json.loads(connection.recv(65536))["pid"])
    wait_for_answer(port)
    took_ms = 1000 * (time.perf_counter() - began_s)
    _, proportional = memory(pid)
    os.kill(pid, signal.SIGTERM)
    connection.recv(65536)  # That it has ended.
    return took_ms, proportional


@contextlib.contextmanager
def template(case: Case, directory: Path) -> Iterator[tuple[socket.socket, int]]:
    path = directory / "template.sock"
    command = [sys.executable, "-m", "ladle.server.template", "--socket", str(path), "--preload"]
    process = subprocess.Popen([*command, *PRELOADS[RUNTIMES[case.server].template]])
    try:
        while not path.exists():
            time.sleep(POLL_S)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(DEADLINE_S)
            connection.connect(str(path))
            connection.send(b'{"list": true}')
            connection.recv(65536)  # Answered when the imports are done.
            yield connection, process.pid
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def environment(port: int) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "LADLE_DRAIN_QUIET_S": "0"}
    return {**os.environ, **threads, "LADLE_HOST": "127.0.0.1", "LADLE_HTTP_PORT": str(port)}


def wait_for_answer(port: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    url = f"http://127.0.0.1:{port}/v1/models/m:predict"
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, BODY, timeout=DEADLINE_S) as answer:
            answer.read()
            return
        time.sleep(POLL_S)
    raise TimeoutError(f"no answer on port {port} within {DEADLINE_S} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
