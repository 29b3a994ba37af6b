"""A runtime as a process, for clients that block."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import pytest
import uvloop
from sklearn.datasets import load_iris
from sklearn.svm import SVC

from tests.waiting import wait_for

DEADLINE_S = 60.0


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """These tests run on the loop that runtimes run on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class Running:
    """Where a server answers."""

    http: str
    grpc: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def iris_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The iris model, served as `iris` over HTTP and gRPC by the scikit-learn runtime."""
    directory: Path = tmp_path_factory.mktemp("iris-server")
    joblib.dump(SVC(gamma="scale").fit(*load_iris(return_X_y=True)), directory / "model.joblib")
    http, grpc = free_port(), free_port()
    env = {**os.environ, "LADLE_HOST": "127.0.0.1", "LADLE_HTTP_PORT": str(http), "LADLE_GRPC_PORT": str(grpc)}
    command = [sys.executable, "-m", "runtimes.sklearnserver", "--model_name=iris", f"--model_dir={directory}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stderr=log)
    try:
        wait_for(
            "the model is ready", lambda: answers(f"http://127.0.0.1:{http}/v2/models/iris/ready"), timeout_s=DEADLINE_S
        )
        yield Running(http=f"127.0.0.1:{http}", grpc=f"127.0.0.1:{grpc}")
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
