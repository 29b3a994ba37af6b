"""Containers that are not ours: any program that listens where PORT says runs behind the queue-proxy, and scales."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.box import Box
from tests.runtimes.processes import KSERVE_PYTHON, ROOT, needs_kserve
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

SERVER = [sys.executable, str(Path(__file__).with_name("foreign_server.py"))]
SHORT_WINDOW = {"autoscaling.knative.dev/window": "6s"}


def custom(name: str, command: list[str], env: Mapping[str, str] | None = None, **predictor: Any) -> dict[str, Any]:
    """An InferenceService whose predictor is the user's own container."""
    container = {
        "name": "kserve-container",
        "image": "example.com/not-ours:1",
        "command": command,
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "default", "annotations": SHORT_WINDOW},
        "spec": {"predictor": {"containers": [container], **predictor}},
    }


def ask(url: str, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Status and body of one request through the gateway."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"Host": address.netloc, "Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def predict(url: str, name: str, rows: list[list[int]]) -> Any:
    status, body = ask(url, "POST", f"/v1/models/{name}:predict", {"instances": rows})
    assert status == 200, body
    return json.loads(body)


def pods(box: Box, name: str) -> list[str]:
    items = box.client.request("GET", "/api/v1/namespaces/default/pods")["items"]
    return [
        item["metadata"]["name"]
        for item in items
        if item["metadata"]["name"].startswith(f"{name}-") and "deletionTimestamp" not in item["metadata"]
    ]


def test_a_server_of_the_users_own_answers_scales_and_wakes(box: Box) -> None:
    manifest = custom("mine", SERVER, {"SLOW_S": "0.2"}, minReplicas=0, maxReplicas=2, containerConcurrency=1)
    box.client.apply(manifest)
    url = box.client.wait_ready("mine", timeout_s=60)["status"]["url"]
    assert predict(url, "mine", [[1, 2], [3, 4]]) == {"predictions": [3, 7]}
    assert ask(url, "GET", "/events") == (200, b"data: 0\n\ndata: 1\n\ndata: 2\n\n")
    with ThreadPoolExecutor(6) as threads:

        def two_pods() -> bool:
            answers = list(threads.map(lambda number: predict(url, "mine", [[number]]), range(6)))
            assert answers == [{"predictions": [number]} for number in range(6)]
            return len(pods(box, "mine")) == 2

        wait_for("two pods", two_pods, timeout_s=60)
    wait_for("no pods", lambda: not pods(box, "mine"), timeout_s=90)
    assert predict(url, "mine", [[5]]) == {"predictions": [5]}
    box.client.delete("mine")


def test_a_knative_service_with_a_command(box: Box, tmp_path: Path) -> None:
    (tmp_path / "greeting.txt").write_text("hello from python -m http.server\n")
    command = [sys.executable, "-m", "http.server", "$(PORT)", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    probe = {"httpGet": {"path": "/greeting.txt"}}
    container = {"image": "example.com/not-ours:1", "command": command, "readinessProbe": probe}
    box.client.apply(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "files", "namespace": "default"},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }
    )
    path = "/apis/serving.knative.dev/v1/namespaces/default/services/files"

    def ready() -> str | None:
        status = box.client.request("GET", path).get("status") or {}
        conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
        return status["url"] if conditions.get("Ready") == "True" else None

    url = wait_for("the Service is Ready", ready, timeout_s=60)
    assert ask(url, "GET", "/greeting.txt") == (200, b"hello from python -m http.server\n")
    assert ask(url, "GET", "/missing")[0] == 404
    box.client.request("DELETE", path)
    wait_for("no process left", lambda: not [pod for pod, _ in box.containers() if pod.startswith("files-")])


@needs_kserve
def test_a_script_written_for_kserve_runs_unchanged(box: Box) -> None:
    script = ROOT / "tests" / "runtimes" / "kserve_scripts" / "models.py"
    flags = ["--kserve", str(script), "--model_name=scripted", "--enable_grpc=false"]
    # The interpreter is another environment's, which has what Ladle needs but not Ladle.
    command = ["env", f"PYTHONPATH={ROOT}", KSERVE_PYTHON, "-m", "runtimes.pyserver", *flags]
    box.client.apply(custom("scripted", command, {"LADLE_HOST": "127.0.0.1"}))
    url = box.client.wait_ready("scripted", timeout_s=90)["status"]["url"]
    assert predict(url, "scripted", [[1, 2], [3, 4]]) == {"predictions": [[2, 4], [6, 8]]}
    box.client.delete("scripted")
