"""A change that cannot work, to a service that serves: the old revision goes on, and the status says what is wrong.

All services live side by side and are broken at once: each case then waits for its own words.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ladle.sdk.client import ApiError
from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, isvc
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]
DEADLINE_S = 120.0
PERIOD_S = 0.02
"""Between two requests of the background, so that the machine is left to the services."""


@dataclass(frozen=True)
class Breakage:
    """What a predictor becomes, and what its status has to say."""

    reason: str
    """In modelStatus.lastFailureInfo, or as the reason of a condition."""
    words: tuple[str, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model."""
    predictor: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the predictor."""
    command: str = ""
    """Python of a server of the user's own, in the model's place."""
    image: str = ""
    """An image without a command, in the model's place."""
    annotations: Mapping[str, str] = field(default_factory=dict)


DEAF = """
import http.server, os

class Deaf(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(503, "not yet")

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Deaf).serve_forever()
"""
SECRET_KEY = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "no-such-secret", "key": "token"}}}
BREAKAGES: dict[str, Breakage] = {
    "no-runtime": Breakage("RuntimeNotRecognized", ("nowhere",), model={"runtime": "nowhere"}),
    "runtime-off": Breakage("RuntimeDisabled", ("off", "disabled"), model={"runtime": "off"}),
    "wrong-format": Breakage("NoSupportingRuntime", ("kserve-xgbserver", "sklearn"), model={"runtime": "kserve-xgbserver"}),
    "wrong-version": Breakage("NoSupportingRuntime", ("9",), model={"modelFormat": {"name": "sklearn", "version": "9"}}),
    "wrong-protocol": Breakage("NoSupportingRuntime", ("grpc-v1",), model={"protocolVersion": "grpc-v1"}),
    "no-files": Breakage("ModelLoadFailed", ("file:///does/not/exist",), model={"storageUri": "file:///does/not/exist"}),
    "no-scheme": Breakage("InvalidStorage", ("ftp://models/iris", "must start with"), model={"storageUri": "ftp://models/iris"}),
    "no-account": Breakage("ServiceAccountNotFound", ("no-such-account",), predictor={"serviceAccountName": "no-such-account"}),
    "no-secret": Breakage("RuntimeUnhealthy", ("no-such-secret",), model={"env": [SECRET_KEY]}),
    "no-key": Breakage(
        "SecretKeyNotFound", ("nothing", "storage-config", "mine"), model={"storage": {"key": "nothing", "path": "iris"}}
    ),
    "foreign-runtime": Breakage(
        "RuntimeUnavailable", ("kserve-tensorflow-serving", "tensorflow"), model={"modelFormat": {"name": "tensorflow"}}
    ),
    "two-ports": Breakage(
        "ReconcileFailed", ("ports",), model={"ports": [{"containerPort": 1}, {"containerPort": 2}]}
    ),
    "no-image": Breakage("RuntimeUnhealthy", ("example.com/nothing:1",), image="example.com/nothing:1"),
    "crashes": Breakage("ModelLoadFailed", ("exit code 3",), command="raise SystemExit(3)"),
    "killed": Breakage("ModelLoadFailed", ("137",), command="import os; os.kill(os.getpid(), 9)"),
    "never-ready": Breakage(
        "RuntimeUnhealthy",
        ("never-ready-predictor-00002 does not become ready", "readinessProbe", "progress-deadline (now 3s)"),
        command=DEAF,
        annotations={"serving.knative.dev/progress-deadline": "3s"},
    ),
}  # fmt: skip


def broken(name: str, iris: Path) -> dict[str, Any]:
    breakage = BREAKAGES[name]
    manifest = isvc(name, iris.as_uri(), annotations=breakage.annotations, **breakage.predictor)
    predictor = manifest["spec"]["predictor"]
    predictor["model"] |= breakage.model
    if "storage" in breakage.model:
        del predictor["model"]["storageUri"]
    if breakage.image:
        manifest["spec"]["predictor"] = {"containers": [{"name": "kserve-container", "image": breakage.image}]}
    if breakage.command:
        probe = {"httpGet": {"path": "/ready"}, "periodSeconds": 1}
        container = {
            "name": "kserve-container",
            "image": "example.com/own",
            "command": [sys.executable, "-c", breakage.command],
            "readinessProbe": probe,
        }
        manifest["spec"]["predictor"] = {"containers": [container]}
    return manifest


class Callers:
    """Asks every service in turn, all the time, and counts what became of it."""

    def __init__(self, box: Box) -> None:
        self.outcomes: dict[str, Counter[str]] = {name: Counter() for name in BREAKAGES}
        self._services = {name: box.client.get(name) for name in BREAKAGES}
        self._client = box.client
        self.stop = threading.Event()

    def run(self) -> None:
        body = json.dumps(INSTANCES).encode()
        while True:
            for name, service in self._services.items():
                try:
                    answer = self._client.send(service, f"/v1/models/{name}:predict", body, timeout_s=DEADLINE_S)
                    outcome = answer.body.decode() if answer.status == 200 else str(answer.status)
                except OSError as error:
                    outcome = type(error).__name__
                self.outcomes[name][outcome] += 1
                if self.stop.wait(PERIOD_S):
                    return


@pytest.fixture(scope="module")
def callers(box: Box, iris: Path) -> Iterator[Callers]:
    """Every service, served and then broken, with requests all the while."""
    off = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "off", "namespace": "default"},
        "spec": {
            "disabled": True,
            "supportedModelFormats": [{"name": "sklearn", "version": "1"}],
            "containers": [{"name": "kserve-container", "image": "kserve/sklearnserver"}],
        },
    }
    store = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "storage-config", "namespace": "default"},
        "stringData": {"mine": '{"type": "s3", "bucket": "models"}'},
    }
    for manifest in (off, store):
        box.client.apply(manifest)
    for name in BREAKAGES:
        box.client.apply(isvc(name, iris.as_uri()))
    for name in BREAKAGES:
        box.client.wait_ready(name, timeout_s=DEADLINE_S)
    calling = Callers(box)
    thread = threading.Thread(target=calling.run)
    thread.start()
    for name in BREAKAGES:
        wait_for(f"{name} is changed", lambda name=name: replaced(box, broken(name, iris)), timeout_s=DEADLINE_S)  # type: ignore[misc]
    yield calling
    calling.stop.set()
    thread.join()


def replaced(box: Box, manifest: Mapping[str, Any]) -> bool:
    """Puts the manifest in the service's place; False where somebody else wrote meanwhile."""
    name = manifest["metadata"]["name"]
    current = box.client.get(name)
    current["metadata"]["annotations"] = manifest["metadata"]["annotations"]
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices/{name}"
    try:
        box.client.request("PUT", path, {**current, "spec": manifest["spec"]})
    except ApiError as error:
        if error.status != 409:
            raise
        return False
    return True


def said(service: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Reasons and messages of a service's failure and conditions."""
    status = service["status"]
    info = status.get("modelStatus", {}).get("lastFailureInfo", {})
    return [(item.get("reason", ""), item.get("message", "")) for item in (info, *status["conditions"])]


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_status_says_what_is_wrong_and_the_old_revision_serves(box: Box, callers: Callers, name: str) -> None:
    breakage = BREAKAGES[name]

    def failure() -> dict[str, Any] | None:
        service = box.client.get(name)
        told = any(
            reason == breakage.reason and all(word in message for word in breakage.words)
            for reason, message in said(service)
        )
        return service if told else None

    try:
        service = wait_for("it is said", failure, timeout_s=DEADLINE_S)
    except AssertionError:
        raise AssertionError(
            f"{breakage.reason} with {breakage.words} is not in {said(box.client.get(name))}"
        ) from None
    ready = next(item for item in service["status"]["conditions"] if item["type"] == "Ready")
    assert ready["status"] != "True"
    predictor = service["status"]["components"]["predictor"]
    assert predictor["latestReadyRevision"] == f"{name}-predictor-00001"
    assert [(item["revisionName"], item["percent"]) for item in predictor["traffic"]] == [
        (f"{name}-predictor-00001", 100)
    ]
    seen = callers.outcomes[name].total()
    wait_for("further answers", lambda: callers.outcomes[name].total() > seen + 1, timeout_s=DEADLINE_S)
    assert set(callers.outcomes[name]) == {'{"predictions":[1,1]}'}


def test_what_can_never_work_is_refused_at_once(box: Box, callers: Callers, iris: Path) -> None:
    """Nothing of a refused change is stored."""
    with pytest.raises(ApiError, match="canaryTrafficPercent"):
        box.client.apply(isvc("no-files", iris.as_uri(), canaryTrafficPercent=101))
    with pytest.raises(ApiError, match=r"metadata\.name: .*at most 53 characters"):
        box.client.apply(isvc("n" * 54, iris.as_uri()))
    with pytest.raises(ApiError, match=r"protocolVersion: .*v7.*supported values"):
        box.client.apply(isvc("no-files", iris.as_uri()) | {"spec": protocol("v7", iris)})


def protocol(version: str, iris: Path) -> dict[str, Any]:
    """A spec that asks for a protocol."""
    spec: dict[str, Any] = isvc("any", iris.as_uri())["spec"]
    spec["predictor"]["model"]["protocolVersion"] = version
    return spec
