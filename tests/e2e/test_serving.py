"""From `kubectl apply` to a prediction and away again, with the tools that users have: kubectl, curl, the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, V2_REQUEST, isvc
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e


def curl(url: str, body: object) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed on this machine")
    command = ["curl", "-sS", "--fail-with-body", "-m", "30", url, "-d", json.dumps(body)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def served(box: Box, iris: Path) -> Box:
    """The iris model, applied as a user would and Ready."""
    box.kubectl("apply", "-f", "-", stdin=json.dumps(isvc("sklearn-iris", iris.as_uri())))
    box.kubectl("wait", "--for=condition=Ready", "isvc/sklearn-iris", "--timeout=60s")
    return box


@pytest.fixture
def archive_server(iris: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of a model.tar.gz on loopback."""
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(iris / "model.joblib", "model.joblib")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/model.tar.gz"
        server.shutdown()
        thread.join()


def test_v1_answers_at_the_status_url(served: Box) -> None:
    url = served.kubectl("get", "isvc", "sklearn-iris", "-o", "jsonpath={.status.url}").stdout
    assert url.startswith("http://sklearn-iris.default.localhost:")
    assert json.loads(curl(f"{url}/v1/models/sklearn-iris:predict", INSTANCES)) == {"predictions": [1, 1]}


def test_v2_answers_at_the_status_url(served: Box) -> None:
    url = served.kubectl("get", "isvc", "sklearn-iris", "-o", "jsonpath={.status.url}").stdout
    answer = json.loads(curl(f"{url}/v2/models/sklearn-iris/infer", V2_REQUEST))
    assert answer["outputs"][0]["data"] == [1, 1]


def test_get_shows_the_columns_of_kserve(served: Box) -> None:
    header, row = served.kubectl("get", "isvc", "sklearn-iris").stdout.splitlines()
    assert header.split() == [
        "NAME",
        "URL",
        "READY",
        "PREV",
        "LATEST",
        "PREVROLLEDOUTREVISION",
        "LATESTREADYREVISION",
        "AGE",
    ]
    assert row.split()[2:5] == ["True", "100", "sklearn-iris-predictor-00001"]


def test_describe_shows_events(served: Box) -> None:
    shown = served.kubectl("describe", "isvc", "sklearn-iris").stdout
    assert "InferenceServiceReady" in shown.partition("Events:")[2]


def test_children_have_the_names_that_kserve_and_knative_give(served: Box) -> None:
    def names(kind: str) -> list[str]:
        return [item["metadata"]["name"] for item in served.get(kind)["items"]]

    assert "sklearn-iris-predictor" in names("ksvc")
    assert "sklearn-iris-predictor-00001" in names("revision")
    assert "sklearn-iris-predictor" in names("route")
    assert "sklearn-iris" in names("virtualservice")
    assert any(name.startswith("sklearn-iris-predictor-00001-deployment-") for name in names("pods"))


def test_logs_show_what_the_server_said(served: Box) -> None:
    selector = "serving.kserve.io/inferenceservice=sklearn-iris"
    said = served.kubectl("logs", "-l", selector, "-c", "kserve-container").stdout
    assert said.strip()
    assert served.ladle("logs", "sklearn-iris", "-n", "default").stdout.strip() == said.strip()


def test_predict_of_the_command_line(served: Box, tmp_path: Path) -> None:
    request = tmp_path / "input.json"
    request.write_text(json.dumps(INSTANCES))
    answer = served.ladle("predict", "sklearn-iris", "-n", "default", "-d", f"@{request}")
    assert json.loads(answer.stdout) == {"predictions": [1, 1]}


def test_status_of_the_command_line(served: Box) -> None:
    shown = served.ladle("status").stderr
    assert "apiserver" in shown
    assert "http://sklearn-iris.default.localhost" in shown


def test_up_again_is_no_second_onebox(served: Box) -> None:
    before = served.processes()
    assert "already up" in served.ladle("up", "--detach").stderr
    assert sorted(served.processes()) == sorted(before)


def test_a_model_from_an_archive_over_http(box: Box, archive_server: str) -> None:
    box.client.apply(isvc("from-http", archive_server))
    box.client.wait_ready("from-http", timeout_s=60)
    assert box.client.predict("from-http", INSTANCES) == {"predictions": [1, 1]}
    box.client.delete("from-http")


def pods_of(box: Box, name: str) -> list[str]:
    """The pods of an InferenceService that have a process."""
    return [pod for pod, _ in box.containers() if pod.startswith(f"{name}-predictor")]


def test_delete_removes_children_and_processes(box: Box, iris: Path) -> None:
    box.client.apply(isvc("short-lived", iris.as_uri()))
    box.client.wait_ready("short-lived", timeout_s=60)
    selector = "serving.kserve.io/inferenceservice=short-lived"
    process = next(process for (pod, _), process in box.containers().items() if pod in pods_of(box, "short-lived"))
    box.kubectl("delete", "isvc", "short-lived", "--timeout=60s")
    for kind in ("ksvc", "configuration", "revision", "route", "deployment", "pods"):
        wait_for(f"no {kind} left", lambda kind=kind: not box.get(kind, "-l", selector)["items"])  # type: ignore[misc]
    assert not [v for v in box.get("virtualservice")["items"] if v["metadata"]["name"].startswith("short-lived")]
    wait_for("no process left", lambda: not pods_of(box, "short-lived") and not process.alive())
