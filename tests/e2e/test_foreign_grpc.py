"""A gRPC server of the user's own on onebox, through the gateway and its queue-proxy."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest

from tests.e2e.box import Box
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

SERVER = [sys.executable, str(Path(__file__).with_name("foreign_grpc_server.py"))]
PATH = "/apis/serving.knative.dev/v1/namespaces/default/services/talker"
DEADLINE_S = 60
MIN_SCALE = {"autoscaling.knative.dev/min-scale": "1"}
"""The activator does not speak HTTP/2 yet."""


def test_calls_and_streams_pass(box: Box) -> None:
    container = {"image": "example.com/talker:1", "command": SERVER, "ports": [{"containerPort": 8080, "name": "h2c"}]}
    template = {"metadata": {"annotations": MIN_SCALE}, "spec": {"containers": [container]}}
    box.client.apply(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "talker", "namespace": "default"},
            "spec": {"template": template},
        }
    )

    def ready() -> str | None:
        status = box.client.request("GET", PATH).get("status") or {}
        conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
        return status["url"] if conditions.get("Ready") == "True" else None

    address = urlsplit(wait_for("the Service is Ready", ready, timeout_s=60))
    options = [("grpc.default_authority", address.netloc)]
    with grpc.insecure_channel(f"127.0.0.1:{address.port}", options=options) as channel:
        talk = channel.stream_stream("/t.Talker/Talk")
        words = talk(iter([b"one", b"two"]), timeout=DEADLINE_S, wait_for_ready=True)
        assert list(words) == [b"you said one", b"you said two"]
        assert channel.unary_unary("/t.Talker/Echo")(bytes(1_000_000), timeout=DEADLINE_S) == bytes(1_000_000)
    box.client.request("DELETE", PATH)
