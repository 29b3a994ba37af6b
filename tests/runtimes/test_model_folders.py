"""Several models in one server: a folder for each below --model_dir, and new folders while it runs."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier

from ladle.server.model_folders import ModelFolders
from ladle.server.options import ServerOptions
from runtimes.onnxserver.__main__ import build_model as build_onnx
from runtimes.sklearnserver.__main__ import build_model as build_sklearn
from tests.runtimes.processes import Running, serving

ROW = [6.8, 2.8, 4.8, 1.4]


def save(folder: Path, answer: int) -> Path:
    """A model that always gives this answer."""
    folder.mkdir(parents=True, exist_ok=True)
    features, labels = load_iris(return_X_y=True)
    model = DummyClassifier(strategy="constant", constant=answer).fit(features, [answer] * len(labels))
    joblib.dump(model, folder / "model.joblib")
    return folder


def ask(server: Running, path: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}{path}", data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def predicted(server: Running, name: str) -> tuple[int, Any]:
    return ask(server, f"/v1/models/{name}:predict", {"instances": [ROW]})


def load(server: Running, name: str) -> tuple[int, Any]:
    return ask(server, f"/v2/repository/models/{name}/load", {})


def index(server: Running) -> dict[str, str]:
    return {item["name"]: item["state"] for item in ask(server, "/v2/repository/index", {})[1]}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, a folder without one and a file beside them."""
    root = tmp_path_factory.mktemp("repository")
    save(root / "one", 1)
    save(root / "two", 2)
    (root / "notes").mkdir()
    (root / "README").write_text("not a model")
    return root


@pytest.fixture(scope="module")
def server(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    command = ["-m", "runtimes.sklearnserver", "--model_name=ignored", f"--model_dir={directory}"]
    with serving(command, tmp_path_factory.mktemp("server")) as running:
        yield running


def test_each_folder_is_a_model_of_its_name(server: Running) -> None:
    assert predicted(server, "one") == (200, {"predictions": [1]})
    assert predicted(server, "two") == (200, {"predictions": [2]})
    assert predicted(server, "ignored")[0] == 404
    found = index(server)
    assert (found["one"], found["two"]) == ("READY", "READY")
    assert not {"notes", "README", "ignored"} & set(found)


def test_a_new_folder_is_loaded_by_its_name(server: Running, directory: Path) -> None:
    assert load(server, "three")[0] == 404
    save(directory / "three", 3)
    assert predicted(server, "three")[0] == 404  # Found is not loaded: only who asks for it gets it.
    assert load(server, "three") == (200, {"name": "three", "load": True})
    assert predicted(server, "three") == (200, {"predictions": [3]})
    assert ask(server, "/v2/repository/models/three/unload", {})[0] == 200
    assert predicted(server, "three")[0] == 503
    save(directory / "three", 4)
    assert load(server, "three")[0] == 200
    assert predicted(server, "three") == (200, {"predictions": [4]})


def test_a_new_model_that_cannot_be_loaded_harms_nobody(server: Running, directory: Path) -> None:
    (directory / "broken").mkdir()
    (directory / "broken" / "model.joblib").write_bytes(b"no pickle")
    status, body = load(server, "broken")
    assert status == 503
    assert "model.joblib" in json.dumps(body)
    assert ask(server, "/v2/health/ready")[0] == 200
    assert "broken" not in index(server)
    assert predicted(server, "one")[0] == 200


@pytest.mark.parametrize("name", ["..", "%2e%2e", "one%2F..%2Fone", ".", "notes", "README"])
def test_only_a_folder_with_a_model_can_be_loaded(server: Running, name: str) -> None:
    assert load(server, name)[0] == 404


def names(built: object) -> list[str] | None:
    """The folders that would be served; None where one model would."""
    return built.names() if isinstance(built, ModelFolders) else None


def test_a_model_in_the_directory_itself_is_the_only_one(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory / "one", tmp_path / "both")
    save(tmp_path / "both" / "inner", 2)
    assert names(build_sklearn(ServerOptions(model_directory=tmp_path / "both"), {})) is None
    assert names(build_sklearn(ServerOptions(model_directory=tmp_path / "missing"), {})) is None


def test_onnx_takes_version_folders_for_versions_and_others_for_models(tmp_path: Path) -> None:
    def given(*files: str) -> list[str] | None:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for file in files:
            (root / file).parent.mkdir(parents=True)
            (root / file).write_bytes(b"")
        return names(build_onnx(ServerOptions(model_directory=root), {}))

    assert given("1/model.onnx", "2/model.onnx") is None
    assert given("only/1/model.onnx") is None  # Triton's repository with one model: served by --model_name.
    assert given("a/model.onnx", "b/1/model.onnx") == ["a", "b"]
    assert given("a/1/model.onnx", "b/3/model.onnx") == ["a", "b"]
