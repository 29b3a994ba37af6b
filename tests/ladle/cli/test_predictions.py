"""What `ladle predict` and `ladle logs` say, against an API server that knows one InferenceService."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ladle.cli.predictions import SERVER, talking_container
from tests.ladle.cli.test_commands import ladle

INIT = "storage-initializer"
SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff"}}
POD = {
    "metadata": {"name": "iris-pod"},
    "status": {
        "initContainerStatuses": [{"name": INIT, "state": BACK_OFF, "lastState": {"terminated": {"exitCode": 1}}}]
    },
}
ANSWERS: dict[str, Any] = {
    SERVICES: {"items": [{"metadata": {"name": "iris"}}]},
    f"{SERVICES}/iris": {"metadata": {"name": "iris"}},
    SERVICES.replace("default", "empty"): {"items": []},
    "/api/v1/namespaces/default/pods": {"items": [POD]},
    "/api/v1/namespaces/default/pods/iris-pod/log": "no such model",
}


class Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        answer = ANSWERS.get(path)
        if path.endswith("/log") and f"container={INIT}" not in query:
            answer = None
        self.send_response(404 if answer is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"message": "not found"} if answer is None else answer).encode())

    def log_message(self, *arguments: Any) -> None: ...


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    named = {"cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}, "name": "c"}
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "clusters": [named],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    yield str(path)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("verb", [["predict", "-d", "{}"], ["logs"]])
def test_an_unknown_name_is_answered_with_those_there_are(verb: list[str], kubeconfig: str, tmp_path: Path) -> None:
    shown = ladle(*verb, "irs", home=tmp_path, environment={"KUBECONFIG": kubeconfig})
    assert shown.returncode == 1
    assert "no InferenceService irs in namespace default; there are: iris" in shown.stderr
    shown = ladle(*verb, "iris", "-n", "empty", home=tmp_path, environment={"KUBECONFIG": kubeconfig})
    assert "in namespace empty; there is none; -n NAMESPACE" in shown.stderr


def test_logs_of_a_pod_without_its_model_are_those_of_the_download(kubeconfig: str, tmp_path: Path) -> None:
    shown = ladle("logs", "iris", home=tmp_path, environment={"KUBECONFIG": kubeconfig})
    assert shown.returncode == 0, shown.stderr
    assert "no such model" in shown.stdout
    assert f"iris-pod ({INIT})" in shown.stderr


@pytest.mark.parametrize(
    ("state", "last", "expected"),
    [
        ({"terminated": {"exitCode": 0}}, {}, SERVER),
        ({"terminated": {"exitCode": 1}}, {}, INIT),
        ({"running": {}}, {}, INIT),
        (BACK_OFF, {"terminated": {"exitCode": 1}}, INIT),
        ({"waiting": {"reason": "PodInitializing"}}, {}, SERVER),
    ],
)
def test_the_container_that_talks_is_the_one_the_pod_waits_for(
    state: dict[str, Any], last: dict[str, Any], expected: str
) -> None:
    statuses = [{"name": INIT, "state": state, "lastState": last}]
    assert talking_container({"status": {"initContainerStatuses": statuses}}) == expected
    assert talking_container({}) == SERVER
