"""gRPC, WebSockets and server-sent events by host, through the gateway: to pods that are there, and from zero."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.e2e.box import Box
from tests.e2e.manifests import INSTANCES, isvc
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

SERVICES = "/apis/serving.knative.dev/v1/namespaces/default/services"
DEADLINE_S = 60
SHORT_WINDOW = {"autoscaling.knative.dev/window": "6s"}
ONE_POD = {"autoscaling.knative.dev/max-scale": "1"}
"""What releases an event has to meet the process that waits for it."""
ALWAYS_THROUGH_THE_ACTIVATOR = {"autoscaling.knative.dev/target-burst-capacity": "-1"}
H2C = {"containerPort": 8081, "name": "h2c", "protocol": "TCP"}


def apply_service(box: Box, name: str, server: str, port: str, annotations: Mapping[str, str]) -> None:
    """A Knative Service around one of the servers beside this file."""
    command = [sys.executable, str(Path(__file__).with_name(server))]
    container = {"image": f"example.com/{name}:1", "command": command, "ports": [{"containerPort": 8080, "name": port}]}
    template = {"metadata": {"annotations": dict(annotations)}, "spec": {"containers": [container]}}
    box.client.apply(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"template": template},
        }
    )


def ready_url(box: Box, name: str) -> str:
    def ready() -> str | None:
        status = box.client.request("GET", f"{SERVICES}/{name}").get("status") or {}
        conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
        return status["url"] if conditions.get("Ready") == "True" else None

    return wait_for(f"the Service {name} is Ready", ready, timeout_s=60) or ""


def pods(box: Box, name: str) -> list[str]:
    """Those that end too: they answer until they are gone."""
    items = box.client.request("GET", "/api/v1/namespaces/default/pods")["items"]
    names = [item["metadata"]["name"] for item in items]
    return [pod for pod in names if pod.startswith(f"{name}-0")]


def at_zero(box: Box, name: str) -> None:
    wait_for(f"{name} has no pods", lambda: not pods(box, name), timeout_s=90)


@contextmanager
def channel(url: str) -> Iterator[grpc.Channel]:
    """To the gateway, for the host of a URL."""
    address = urlsplit(url)
    options = [("grpc.default_authority", address.netloc), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{address.port}", options=options) as made:
        yield made


def method(name: str) -> str:
    return f"/t.Talker/{name}"


@pytest.mark.parametrize("path", [{}, ALWAYS_THROUGH_THE_ACTIVATOR], ids=["direct", "through-the-activator"])
def test_every_kind_of_call_reaches_a_server_of_the_users_own(box: Box, path: Mapping[str, str]) -> None:
    name = "talker-activated" if path else "talker"
    apply_service(box, name, "foreign_grpc_server.py", "h2c", SHORT_WINDOW | path)
    with channel(ready_url(box, name)) as client:
        echo = client.unary_unary(method("Echo"))
        answer, call = echo.with_call(b"hello", timeout=DEADLINE_S, wait_for_ready=True, metadata=(("x-mine", "1"),))
        trailing = dict(call.trailing_metadata())
        assert (answer, trailing["x-seen"]) == (b"hello", "1")
        assert trailing["x-came-by"] == "activator" or not path
        assert echo(bytes(1_000_000), timeout=DEADLINE_S) == bytes(1_000_000)
        numbers = client.unary_stream(method("Count"))(b"100", timeout=DEADLINE_S)
        assert list(numbers) == [b"%d" % number for number in range(100)]
        assert client.stream_unary(method("Join"))(iter([b"a", b"b"]), timeout=DEADLINE_S) == b"a b"
        talk = client.stream_stream(method("Talk"))
        assert list(talk(iter([b"one", b"two"]), timeout=DEADLINE_S)) == [b"you said one", b"you said two"]
        assert outcome(client, "Refuse") == (grpc.StatusCode.FAILED_PRECONDITION, "not today")
        assert {outcome(client, "Missing")[0] for _ in range(20)} == {grpc.StatusCode.UNIMPLEMENTED}
        assert outcome(client, "Wait", timeout=0.5)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
        at_zero(box, name)
        talk = client.stream_stream(method("Talk"))
        assert list(talk(iter([b"awake"]), timeout=DEADLINE_S)) == [b"you said awake"]
    box.client.request("DELETE", f"{SERVICES}/{name}")


def outcome(client: grpc.Channel, name: str, *, timeout: float = DEADLINE_S) -> tuple[grpc.StatusCode, str]:
    """Status and text of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        client.unary_unary(method(name))(b"", timeout=timeout)
    return caught.value.code(), caught.value.details()


def test_an_inference_service_speaks_grpc(box: Box, iris: Path) -> None:
    """KServe's manifest for gRPC: one port, named h2c."""
    manifest = isvc("iris-grpc", iris.as_uri(), annotations=SHORT_WINDOW, minReplicas=0)
    manifest["spec"]["predictor"]["model"] |= {"protocolVersion": "v2", "ports": [H2C]}
    box.client.apply(manifest)
    url = box.client.wait_ready("iris-grpc", timeout_s=60)["status"]["url"]
    assert infer(url, "iris-grpc") == [1, 1]
    at_zero(box, "iris-grpc-predictor")
    assert infer(url, "iris-grpc") == [1, 1]
    assert predict(url, "iris-grpc") == {"predictions": [1, 1]}
    box.client.delete("iris-grpc")


def predict(url: str, model: str) -> Any:
    """What curl gets from the same port."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=DEADLINE_S)
    try:
        headers = {"Host": address.netloc, "Content-Type": "application/json"}
        connection.request("POST", f"/v1/models/{model}:predict", json.dumps(INSTANCES), headers)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def infer(url: str, model: str) -> list[int]:
    """What Triton's client gets from the gateway."""
    address = urlsplit(url)
    rows = np.array(INSTANCES["instances"], dtype=np.float64)
    options = [("grpc.default_authority", address.netloc), ("grpc.use_local_subchannel_pool", 1)]
    with InferenceServerClient(f"127.0.0.1:{address.port}", channel_args=options) as client:
        tensor = InferInput("input-0", list(rows.shape), "FP64")
        tensor.set_data_from_numpy(rows)
        answer = client.infer(model, [tensor], client_timeout=DEADLINE_S)
        assert client.is_model_ready(model, client_timeout=DEADLINE_S)
        found: list[int] = answer.as_numpy(answer.get_response().outputs[0].name).tolist()
        return found


@pytest.mark.parametrize("path", [{}, ALWAYS_THROUGH_THE_ACTIVATOR], ids=["direct", "through-the-activator"])
def test_websockets_and_server_sent_events(box: Box, path: Mapping[str, str]) -> None:
    name = "streams-activated" if path else "streams"
    apply_service(box, name, "foreign_streams_server.py", "http1", SHORT_WINDOW | ONE_POD | path)
    address = urlsplit(ready_url(box, name))
    for _ in range(2):
        assert asyncio.run(conversation(address.netloc, address.port or 80)) == ["echo one", "echo two"]
        assert first_and_second_event(address.netloc, address.port or 80) == (b"data: first\n", b"data: second\n")
        at_zero(box, name)
    assert first_and_second_event(address.netloc, address.port or 80) == (b"data: first\n", b"data: second\n")
    box.client.request("DELETE", f"{SERVICES}/{name}")


async def conversation(host: str, port: int) -> list[str]:
    """What a WebSocket says to two words."""
    answers: list[Any] = []
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(DEADLINE_S)) as session,
        session.ws_connect(f"http://127.0.0.1:{port}/echo", headers={"Host": host}) as socket,
    ):
        for word in ("one", "two"):
            await socket.send_str(word)
            answers.append(await socket.receive_str(timeout=DEADLINE_S))
    return answers


def first_and_second_event(host: str, port: int) -> tuple[bytes, bytes]:
    """Two events, of which the second is sent only when the first was read: nobody on the way may collect them."""
    reading = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    releasing = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    reading.request("GET", "/events", headers={"Host": host})
    response = reading.getresponse()
    first, _ = response.readline(), response.readline()
    releasing.request("POST", "/go-on", headers={"Host": host})
    assert releasing.getresponse().status == 200
    second = response.readline()
    reading.close()
    releasing.close()
    return first, second
