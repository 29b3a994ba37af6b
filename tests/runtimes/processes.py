"""Servers as processes of their own, for clients that block and for code that needs another environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90.0
_KSERVE = ROOT / ".envs" / "kserve"
KSERVE_PYTHON = str(_KSERVE / "bin" / "python")
"""The interpreter with the kserve package, which caps other libraries and so has an environment of its own."""
needs_kserve = pytest.mark.skipif(
    not (_KSERVE / ".complete").exists(), reason="no environment with the kserve package: .ci/peers kserve builds it"
)
_ATTEMPTS = 5
"""Ports are chosen before the server binds them; another process may be quicker."""


@dataclass(frozen=True)
class Running:
    """Where a server answers, and where it logs."""

    http: str
    grpc: str
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.http}"


def environment(**variables: str) -> dict[str, str]:
    """The variables of a process that imports Ladle from here, whichever interpreter it has."""
    return {**os.environ, "LADLE_HOST": "127.0.0.1", "PYTHONPATH": str(ROOT), **variables}


@contextlib.contextmanager
def serving(command: Sequence[str], directory: Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A server that is ready; `command` without the interpreter runs in this one's. Ended after the block."""
    arguments = list(command) if command[0].startswith("/") else [sys.executable, *command]
    directory.mkdir(parents=True, exist_ok=True)
    for attempt in range(_ATTEMPTS):
        http_port, grpc_port = free_ports(2)
        running = Running(f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}", directory / f"log-{attempt}")
        ports = {"LADLE_HTTP_PORT": str(http_port), "LADLE_GRPC_PORT": str(grpc_port)}
        with running.log.open("wb") as log:
            process = subprocess.Popen(arguments, env=environment(**ports, **(env or {})), stdout=log, stderr=log)
        try:
            wait_for("the server is ready", partial(settled, process, running), timeout_s=DEADLINE_S)
            if process.poll() is None:
                yield running
                return
            if "cannot listen" not in running.log.read_text():
                raise AssertionError(f"{arguments} ended with {process.returncode}:\n{running.log.read_text()}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_S)
    raise AssertionError(f"no free port in {_ATTEMPTS} attempts")


def settled(process: subprocess.Popen[bytes], server: Running) -> bool:
    return ready(server) or process.poll() is not None


def ready(server: Running) -> bool:
    """Whether it answers so itself: its log says that the port is its own."""
    if '"event": "listening"' not in server.log.read_text():
        return False
    try:
        with urllib.request.urlopen(f"{server.url}/v2/health/ready", timeout=DEADLINE_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
