"""No cost at rest, no lost request: to zero and back, and up and down with load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, isvc
from tests.e2e.traffic import traffic
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

SHORT_WINDOW = {"autoscaling.knative.dev/window": "6s"}
"""The shortest stable window that Knative allows."""


def pods(box: Box, name: str) -> list[str]:
    selector = f"serving.kserve.io/inferenceservice%3D{name}"
    items = box.client.request("GET", f"/api/v1/namespaces/default/pods?labelSelector={selector}")["items"]
    return [item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]]


def test_pods_go_away_when_idle_and_the_next_request_is_answered(box: Box, iris: Path) -> None:
    box.client.apply(isvc("sleepy", iris.as_uri(), annotations=SHORT_WINDOW, minReplicas=0))
    service = box.client.wait_ready("sleepy", timeout_s=60)
    for _ in range(2):
        wait_for("no pods", lambda: not pods(box, "sleepy"), timeout_s=60)
        assert box.client.predict("sleepy", INSTANCES) == {"predictions": [1, 1]}
    assert service["status"]["url"]
    box.client.delete("sleepy")


@pytest.mark.timeout(240)
def test_replicas_follow_load_and_no_request_fails(box: Box, iris: Path) -> None:
    manifest = isvc(
        "busy",
        iris.as_uri(),
        annotations=SHORT_WINDOW,
        minReplicas=0,
        maxReplicas=3,
        scaleTarget=4,
        containerConcurrency=0,
    )
    box.client.apply(manifest)
    url = box.client.wait_ready("busy", timeout_s=60)["status"]["url"]
    with traffic(url, "busy", connections=32) as load:
        wait_for("the maximum of replicas", lambda: len(pods(box, "busy")) == 3, timeout_s=60)
        enough = sum(load.outcomes.values()) + 2000
        wait_for("requests at the maximum", lambda: sum(load.outcomes.values()) > enough, timeout_s=60)
    assert not load.failures
    with traffic(url, "busy", connections=1) as load:
        wait_for("one replica", lambda: len(pods(box, "busy")) == 1, timeout_s=90)
    assert not load.failures
    wait_for("no pods", lambda: not pods(box, "busy"), timeout_s=90)
    box.client.delete("busy")
