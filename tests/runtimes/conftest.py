"""A runtime as a process, for clients that block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import joblib
import pytest
import uvloop
from sklearn.datasets import load_iris
from sklearn.svm import SVC

import runtimes.pytorchserver  # noqa: F401  # Sets OpenMP's wait policy, before any test imports torch.
from tests.runtimes.processes import Running, serving


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """These tests run on the loop that runtimes run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def iris_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The iris model, served as `iris` over HTTP and gRPC by the scikit-learn runtime."""
    directory = tmp_path_factory.mktemp("iris-server")
    joblib.dump(SVC(gamma="scale").fit(*load_iris(return_X_y=True)), directory / "model.joblib")
    command = ["-m", "runtimes.sklearnserver", "--model_name=iris", f"--model_dir={directory}"]
    with serving(command, directory) as running:
        yield running
