"""What the client makes of answers: errors with the server's words, readiness by generation, the right predict path."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from ladle.sdk.client import ApiError, Client, NotReady, is_ready, predict_path, reasons


class Recorder(BaseHTTPRequestHandler):
    """Answers every request with the next scripted (status, body) and remembers what came."""

    script: ClassVar[list[tuple[int, Any]]] = []
    seen: ClassVar[list[tuple[str, str, Any, str]]] = []

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path, json.loads(body) if body else None, self.headers["Host"]))
        status, content = self.script.pop(0)
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Recorder.script.clear()
    Recorder.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(server: ThreadingHTTPServer, tmp_path: Path) -> Client:
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    return Client(tmp_path / "config")


def service(
    *, generation: int = 1, observed: int = 1, ready: str = "True", url: str = "http://x.default.localhost:1"
) -> Any:
    condition = {"type": "Ready", "status": ready, "reason": "Why", "message": "because"}
    return {
        "metadata": {"name": "x", "generation": generation},
        "status": {"observedGeneration": observed, "conditions": [condition], "url": url},
    }


def test_apply_is_strict_and_server_side(client: Client) -> None:
    Recorder.script.append((200, {}))
    client.apply({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "x"}})
    method, path, body, _ = Recorder.seen[0]
    assert method == "PATCH"
    assert path.startswith("/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices/x?")
    assert "fieldValidation=Strict" in path
    assert body["kind"] == "InferenceService"


def test_a_refusal_carries_the_servers_words(client: Client) -> None:
    Recorder.script.append((422, {"message": "spec.predictor: Required value"}))
    with pytest.raises(ApiError, match=r"spec\.predictor: Required value") as raised:
        client.get("x")
    assert raised.value.status == 422


def test_an_absent_server_says_where_to_look(client: Client, server: ThreadingHTTPServer) -> None:
    server.server_close()
    with pytest.raises(ApiError, match="ladle status"):
        client.get("x")


def test_wait_ready_returns_the_ready_service(client: Client) -> None:
    Recorder.script.extend([(200, service(ready="Unknown")), (200, service(observed=0)), (200, service())])
    assert client.wait_ready("x", timeout_s=5) == service()


def test_wait_ready_says_why_not(client: Client) -> None:
    Recorder.script.append((200, service(ready="False")))
    with pytest.raises(NotReady, match="Ready is False: because"):
        client.wait_ready("x", timeout_s=0)


def test_predict_goes_to_the_url_of_the_service(client: Client, server: ThreadingHTTPServer) -> None:
    port = server.server_address[1]
    Recorder.script.extend([(200, service(url=f"http://x.default.localhost:{port}")), (200, {"predictions": [1]})])
    assert client.predict("x", {"instances": [[1]]}) == {"predictions": [1]}
    assert Recorder.seen[1] == ("POST", "/v1/models/x:predict", {"instances": [[1]]}, f"x.default.localhost:{port}")


def test_a_failing_model_is_an_error_with_its_words(client: Client, server: ThreadingHTTPServer) -> None:
    url = f"http://x.default.localhost:{server.server_address[1]}"
    Recorder.script.extend([(200, service(url=url)), (400, {"error": "expected 4 features"})])
    with pytest.raises(ApiError, match="expected 4 features"):
        client.predict("x", {"instances": [[1]]})


def test_inputs_go_to_v2() -> None:
    assert predict_path("x", {"inputs": []}) == "/v2/models/x/infer"
    assert predict_path("x", {"instances": []}) == "/v1/models/x:predict"


def test_an_older_generation_is_not_ready() -> None:
    assert is_ready(service())
    assert not is_ready(service(generation=2))


def test_reasons_begin_with_the_models_own_failure() -> None:
    failing = service(ready="False")
    failing["status"]["modelStatus"] = {"lastFailureInfo": {"message": "no such file"}}
    assert reasons(failing) == ["no such file", "Ready is False: because"]
