"""Servers of tabular models as the node starts them: forked from one template that has their libraries imported."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from onebox.node.images import PRELOADS
from tests.ports import free_port
from tests.waiting import wait_for

DEADLINE_S = 60.0
FEATURES, LABELS = load_iris(return_X_y=True)


class Template:
    """The process, and one connection to it."""

    def __init__(self, directory: Path, preload: tuple[str, ...] = PRELOADS["tabular"]) -> None:
        self.directory = directory
        self.path = directory / "t.sock"
        command = [sys.executable, "-m", "ladle.server.template", "--socket", str(self.path), "--preload"]
        # As the node does: nobody says how many threads numeric libraries may have.
        env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        self.process = subprocess.Popen([*command, *preload], env=env)
        wait_for("the template listens", self.connects, timeout_s=DEADLINE_S)

    def connects(self) -> bool:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE_S)
        with contextlib.suppress(OSError):
            self.socket.connect(str(self.path))
            return True
        self.socket.close()
        return False

    def ask(self, message: object, fds: list[int]) -> dict[str, Any]:
        socket.send_fds(self.socket, [json.dumps(message).encode()], fds)
        answer: dict[str, Any] = json.loads(self.socket.recv(65536))
        return answer

    def fork(self, module: str, model: Path) -> str:
        """Starts a server of the model `m`; its address."""
        port = free_port()
        env = {"LADLE_HOST": "127.0.0.1", "LADLE_HTTP_PORT": str(port), "OMP_NUM_THREADS": "2"}
        argv = ["--model_name=m", f"--model_dir={model}"]
        request = {"id": f"{module}/0", "module": module, "argv": argv, "env": env, "cwd": "/"}
        with (self.directory / "out").open("ab") as out:
            assert "pid" in self.ask(request, [out.fileno(), out.fileno()])
        return f"http://127.0.0.1:{port}"

    def close(self) -> None:
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            os.kill(int(child), 15)
        self.socket.close()
        self.process.terminate()
        self.process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    started = Template(tmp_path_factory.mktemp("template"))
    yield started
    started.close()


def train(module: str, directory: Path) -> np.ndarray:
    """Writes a model; what its library answers for the first rows."""
    rows = FEATURES[::30]
    if module == "runtimes.sklearnserver":
        forest = RandomForestClassifier(10, random_state=0).fit(FEATURES, LABELS)
        joblib.dump(forest, directory / "model.joblib")
        return np.asarray(forest.predict(rows))
    if module == "runtimes.xgbserver":
        xgboost = pytest.importorskip("xgboost")
        booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(FEATURES, LABELS), num_boost_round=5)
        booster.save_model(directory / "model.ubj")
        return np.asarray(booster.predict(xgboost.DMatrix(rows)))
    lightgbm = pytest.importorskip("lightgbm")
    data = lightgbm.Dataset(FEATURES, LABELS)
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, data, num_boost_round=5)
    booster.save_model(directory / "model.txt")
    return np.asarray(booster.predict(rows))


@pytest.mark.parametrize("module", ["runtimes.sklearnserver", "runtimes.xgbserver", "runtimes.lgbserver"])
def test_a_forked_server_answers_as_the_library_does(template: Template, tmp_path: Path, module: str) -> None:
    expected = train(module, tmp_path)
    url = template.fork(module, tmp_path)

    def answer() -> list[float] | None:
        body = json.dumps({"instances": FEATURES[::30].tolist()}).encode()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v1/models/m:predict", body, 10) as found:
            predictions: list[float] = json.load(found)["predictions"]
            return predictions
        return None

    np.testing.assert_allclose(wait_for("an answer", answer, timeout_s=DEADLINE_S), expected, rtol=1e-6)


def test_the_template_has_one_thread(template: Template) -> None:
    """A fork copies one thread only: a lock that another one held would stay locked in every child."""
    template.ask({"list": True}, [])  # Answered after the imports.
    assert len(os.listdir(f"/proc/{template.process.pid}/task")) == 1
