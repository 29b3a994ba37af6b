"""A `logger:` in the manifest: a sink hears of each request and each answer, from our servers and from any other's sidecar."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, isvc
from tests.e2e.test_foreign import SERVER, ask, custom
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

READY_S = 90.0
REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"


class Sink:
    """A server that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[dict[str, str], bytes]] = []
        events = self.events

        class Keeper(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                events.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(202)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Keeper)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def of(self, service: str) -> dict[str, tuple[dict[str, str], bytes]]:
        """The last event of each type about a service."""
        found = (event for event in list(self.events) if event[0].get("ce-inferenceservicename") == service)
        return {headers["ce-type"]: (headers, body) for headers, body in found}


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    kept = Sink()
    thread = threading.Thread(target=kept.server.serve_forever, args=(0.05,))
    thread.start()
    yield kept
    kept.server.shutdown()
    kept.server.server_close()
    thread.join()


def told(box: Box, sink: Sink, manifest: Mapping[str, Any]) -> dict[str, tuple[dict[str, str], bytes]]:
    """Both events of one prediction, with the answer's body as the response's."""
    name = manifest["metadata"]["name"]
    box.client.apply(manifest)
    url = box.client.wait_ready(name, timeout_s=READY_S)["status"]["url"]
    body, address = json.dumps(INSTANCES), urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=READY_S)
    headers = {"Host": address.netloc, "Content-Type": "application/json", "X-Team": "blue"}
    connection.request("POST", f"/v1/models/{name}:predict", body, headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status == 200, answer
    events = wait_for("both events", lambda: found if len(found := sink.of(name)) == 2 else None, timeout_s=READY_S)
    assert events is not None
    assert events[REQUEST][1] == body.encode()
    assert events[RESPONSE][1] == answer
    shared = {name: {events[kind][0][name] for kind in events} for name in ("ce-id", "ce-source", "ce-metadata")}
    assert all(len(values) == 1 for values in shared.values()), shared
    assert shared["ce-metadata"] == {'{"X-Team":["blue"]}'}
    assert shared["ce-source"].pop().startswith(f"{name}-predictor-00001")
    expected = {"ce-component": "predictor", "ce-namespace": "default", "ce-specversion": "1.0"}
    assert expected.items() <= events[REQUEST][0].items()
    return events


def test_our_own_server_tells(box: Box, iris: Path, sink: Sink) -> None:
    logger = {"url": sink.url, "mode": "all", "metadataHeaders": ["X-Team"]}
    told(box, sink, isvc("told", iris.as_uri(), logger=logger))
    url = box.client.get("told")["status"]["url"]
    assert b'ladle_payload_events_total{outcome="sent"} 2.0' in ask(url, "GET", "/metrics")[1]


def test_the_sidecar_of_a_server_of_the_users_own_tells(box: Box, sink: Sink) -> None:
    told(box, sink, custom("mine-told", SERVER, logger={"url": sink.url, "mode": "all", "metadataHeaders": ["X-Team"]}))


def test_a_sink_that_cannot_be_is_said_and_the_old_revision_serves(box: Box, iris: Path) -> None:
    name = "told-nowhere"
    box.client.apply(isvc(name, iris.as_uri()))
    box.client.wait_ready(name, timeout_s=READY_S)
    box.client.apply(isvc(name, iris.as_uri(), logger={"url": "s3://bucket/events", "mode": "all"}))

    def said() -> str:
        info = box.client.get(name)["status"]["modelStatus"].get("lastFailureInfo") or {}
        return str(info.get("message", ""))

    wait_for("the sink is named", lambda: "--log-url = s3://bucket/events, must be http" in said(), timeout_s=READY_S)
    assert box.client.predict(name, INSTANCES)["predictions"] == [1, 1]
