"""The services under load: models that answer with their version, and foreign servers that stream."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
from sklearn.dummy import DummyClassifier

from tests.e2e.box import Box
from tests.waiting import wait_for

HERE = Path(__file__).parent
STREAMING = [sys.executable, str(HERE / "streaming_server.py")]
TALKING = [sys.executable, str(HERE.parent / "e2e" / "foreign_grpc_server.py")]
SHORT_WINDOW = {"autoscaling.knative.dev/window": "6s"}
"""The shortest stable window that Knative allows."""
KNATIVE = "/apis/serving.knative.dev/v1/namespaces/default/services"


def save_version(folder: Path, version: int) -> str:
    """The storage URI of a model that predicts its version, whatever it is asked."""
    folder.mkdir(parents=True)
    model = DummyClassifier(strategy="constant", constant=version)
    joblib.dump(model.fit([[0.0] * 4, [1.0] * 4], [version, version]), folder / "model.joblib")
    return folder.as_uri()


def foreign(
    name: str,
    command: list[str],
    annotations: Mapping[str, str],
    *,
    h2c: bool = False,
    round_number: int = 0,
    concurrency: int = 0,
) -> dict[str, Any]:
    """A Knative Service of a foreign server; another `round_number` makes another revision of it."""
    container: dict[str, Any] = {
        "image": "example.com/not-ours:1",
        "command": command,
        "env": [{"name": "ROUND", "value": str(round_number)}],
    }
    if h2c:
        container["ports"] = [{"containerPort": 8080, "name": "h2c"}]
    template = {
        "metadata": {"annotations": dict(annotations)},
        "spec": {"containers": [container], "containerConcurrency": concurrency},
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template},
    }


def foreign_url(box: Box, name: str) -> str | None:
    """The URL of a Knative Service that is Ready for its newest spec; None before."""
    service = box.client.request("GET", f"{KNATIVE}/{name}")
    status = service.get("status") or {}
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
    current = status.get("observedGeneration") == service["metadata"]["generation"]
    return status["url"] if current and conditions.get("Ready") == "True" else None


def wait_foreign(box: Box, name: str) -> str:
    return wait_for(f"{name} is Ready", lambda: foreign_url(box, name), timeout_s=60)


def pods_of(box: Box, name: str) -> list[str]:
    """Pods whose name begins with the service's, those on their way out not counted."""
    items = box.client.request("GET", "/api/v1/namespaces/default/pods")["items"]
    return [
        item["metadata"]["name"]
        for item in items
        if item["metadata"]["name"].startswith(f"{name}-") and "deletionTimestamp" not in item["metadata"]
    ]
