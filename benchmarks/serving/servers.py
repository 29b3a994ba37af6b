"""The servers beside each other: how each is started, and why one is missing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"
START_TIMEOUT_S = 120.0
"""kserve imports for five seconds, on a busy machine for longer."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_POD = {"REVISION_TIMEOUT_SECONDS": "300", "LADLE_ALLOW_PICKLE": "true"}
"""What Knative sets for every revision, so that our deadlines are on."""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs. A port is 0 where it does not speak that protocol."""

    name: str
    pid: int
    http_port: int
    grpc_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How to start one."""

    name: str
    script: str
    environment: str = ""
    """Of .ci/peers; "" is our own."""
    speaks: Sequence[str] = ("http", "grpc")
    variables: Mapping[str, str] = field(default_factory=dict)


LADLE = Program(name="ladle", script="ladle_server.py", variables=_POD)
PROGRAMS = (
    LADLE,
    Program(name="bare httptools", script="bare_http.py", speaks=("http",)),
    Program(name="bare grpc.aio", script="bare_grpc.py", speaks=("grpc",)),
    Program(name="FastAPI", script="fastapi_server.py", environment="kserve", speaks=("http",)),
    Program(name="kserve", script="kserve_server.py", environment="kserve"),
    Program(name="MLServer", script="mlserver", environment="mlserver"),
)


class Missing(Exception):
    """A server that cannot be compared, with the reason."""


@contextlib.contextmanager
def running(program: Program, models: Path, logs: Path) -> Iterator[Server]:
    """The server while the block runs; Missing where it cannot be started."""
    interpreter = _interpreter(program)
    http_port, grpc_port = _free_port(), _free_port()
    command = _command(program, interpreter, models, http_port, grpc_port)
    variables = {
        **os.environ,
        **_ONE_THREAD,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(PEERS))),
        **program.variables,
    }
    log = logs / f"{program.name.replace(' ', '-')}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=variables, stdout=stream, stderr=stream, cwd=logs)
    try:
        for port, protocol in ((http_port, "http"), (grpc_port, "grpc")):
            if protocol in program.speaks:
                _wait_for(port, process, log, is_http=protocol == "http")
        ports = (
            port if protocol in program.speaks else 0 for protocol, port in (("http", http_port), ("grpc", grpc_port))
        )
        yield Server(program.name, process.pid, *ports)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _interpreter(program: Program) -> str:
    if not program.environment:
        return sys.executable
    built = subprocess.run([ROOT / ".ci" / "peers", program.environment], capture_output=True, text=True, check=False)
    if built.returncode:
        raise Missing(f"its environment cannot be built: {built.stderr.strip()[-300:]}")
    return str(ROOT / ".envs" / program.environment / "bin" / "python")


def _command(program: Program, interpreter: str, models: Path, http_port: int, grpc_port: int) -> list[str]:
    if program.script == "mlserver":
        return [
            str(Path(interpreter).with_name("mlserver")),
            "start",
            str(_mlserver_folder(models, http_port, grpc_port)),
        ]
    flags = [f"--http_port={http_port}", f"--grpc_port={grpc_port}", "--models", str(models)]
    if program.name == "kserve":
        flags.append("--enable_latency_logging=false")
    return [interpreter, str(PEERS / program.script), *flags]


def _mlserver_folder(models: Path, http_port: int, grpc_port: int) -> Path:
    """MLServer is told by files. One process without its log of requests, as with the others."""
    folder = models / "mlserver"
    settings = {"host": "127.0.0.1", "http_port": http_port, "grpc_port": grpc_port, "metrics_port": _free_port()}
    settings |= {"parallel_workers": 0, "debug": False, "grpc_max_message_length": 8 * 1024 * 1024}
    iris = {"name": "iris", "implementation": "mlserver_sklearn.SKLearnModel"}
    iris |= {"parameters": {"uri": str(models / "iris" / "model.joblib")}}
    image = {"name": "image", "implementation": "mlserver_image.Image"}
    for name, content in (("settings", settings), ("iris/model-settings", iris), ("image/model-settings", image)):
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def _free_port() -> int:
    """A port whose successor is free as well: ours takes both. Somebody may take one meanwhile; the start then fails."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path, *, is_http: bool) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise Missing(f"it ended with {process.returncode}: {_last_words(log)}")
        with contextlib.suppress(OSError):
            if _is_ready(port) if is_http else _listens(port):
                return
        time.sleep(0.05)
    raise Missing(f"it is not ready on port {port} after {START_TIMEOUT_S:.0f} s: {_last_words(log)}")


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def _is_ready(port: int) -> bool:
    """Some listen before their models are loaded, and say so at this path; the others load first and do not know it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/v2/health/ready")
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status in (200, 404) and b"false" not in content


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-300:]
