"""Knative's recorded queue-proxy, case by case, against ours in process; tests/runtimes/test_queueproxy.py: the sidecar."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle.clock import SystemClock
from ladle.protocol.messages import InferRequest
from ladle.server.http.application import Answer as Handled
from ladle.server.http.messages import Request, Response
from ladle.server.http.server import HttpServer
from ladle.server.model import Model
from ladle.server.queue_proxy import QueueProxy
from ladle.server.queue_settings import QueueSettings
from tests.ladle.server.serving import served
from tests.ladle.server.wire import Answer, ask
from tests.waiting import eventually

GOLDEN = Path(__file__).parents[3] / "../shared/golden/knative/queue-proxy.yaml"
WHOLE_SERVER = ("drain-port", "autoscaling-metrics", "probe-user-404", "user-metrics", "user-port-closed")
"""Cases about more than the queue-proxy's own port: a whole model server answers them."""
DIFFERENT = {
    "probe-user-404": "at once instead of after ten seconds of polling: the server is its own container, and knows",
    "user-metrics": "at /metrics of the data port: a port for the numbers of one process would hold nothing else",
    "user-port-closed": "cannot happen: there is no second process; a model that is not loaded is a 503 with its name",
}
"""What differs in process, and why; the same stands in docs/differences.md. In tests/runtimes/test_queueproxy.py the sidecar
answers all cases as recorded, but for `user-metrics`, which it leaves to the container."""


def cases() -> dict[str, Any]:
    return yaml.safe_load(GOLDEN.read_text()) if GOLDEN.exists() else {}


def service(request: Request) -> Handled:
    """What stood behind the recorded proxy."""
    if request.path == "/hello":
        return Response(200, b"hello", content_type=b"text/plain", headers=((b"x-from", b"service"),))
    if request.path.startswith("/slow/"):
        return slow(float(request.path.rpartition("/")[2]))
    if request.path == "/stream":
        return Response(200, content_type=b"text/event-stream", stream=stream())  # type: ignore[arg-type]
    return Response(404, b'{"error":"no such path"}')


async def slow(seconds: float) -> Response:
    await passing(seconds)
    return Response(200, b'{"predictions":["late"]}')


async def stream() -> AsyncIterator[bytes]:
    for number in range(3):
        yield f"data: {number}\n\n".encode()
        await passing(0.2)


async def passing(seconds: float) -> None:
    """The recorded service's own slowness."""
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, lambda: over.done() or over.set_result(None))
    await over


def settings_of(name: str) -> QueueSettings:
    """The limits are in the names of the cases."""
    if name.startswith("response-start-timeout-1"):
        return QueueSettings(response_start_timeout_s=1.0)
    if name.startswith("concurrency-") and "unlimited" not in name:
        return QueueSettings(container_concurrency=int(name.split("-")[1]))
    return QueueSettings()


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")
@pytest.mark.parametrize("name", [name for name in cases() if name not in WHOLE_SERVER])
async def test_recorded_case(name: str) -> None:
    case = cases()[name]
    async with asyncio.TaskGroup() as tasks:
        clock = SystemClock()
        gate = asyncio.Event()
        handler = service if "request" in case else lambda _: held(gate)
        proxy = QueueProxy(handler, lambda: True, tasks=tasks, settings=settings_of(name), clock=clock)
        server = HttpServer(proxy, tasks, clock=clock)
        await server.listen("127.0.0.1", 0)
        if "request" in case:
            await assert_one(server.port, case)
        else:
            await assert_crowd(server.port, case, proxy, gate)
        assert (proxy.stats.concurrency, proxy.breaker.running) == (0, 0)
        server.close()


async def assert_one(port: int, case: dict[str, Any]) -> None:
    request, expected = case["request"], case["answer"]
    headers = {name.replace("-", "_"): value for name, value in request["headers"].items()}
    body = request["body"].encode() if request["body"] is not None else None
    answer = await ask(port, "GET" if body is None else "POST", request["path"], body, **headers)
    assert (answer.status, answer.text) == (expected["status"], expected["body"])
    wanted = {name: value.lower() for name, value in expected["headers"].items() if name != "server"}
    assert {name: answer.headers.get(name) for name in wanted} == wanted


async def held(gate: asyncio.Event) -> Response:
    """The recorded service's slow answer, which here comes when all have arrived."""
    await gate.wait()
    return Response(200, b'{"predictions":["late"]}')


async def assert_crowd(port: int, case: dict[str, Any], proxy: QueueProxy, gate: asyncio.Event) -> None:
    refused = sum(count for answer, count in case["answers"].items() if answer.startswith("503"))
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(port, "GET", case["path"])) for _ in range(case["requests"])]

        async def arrived() -> bool:
            inside, done = proxy.stats.concurrency, sum(task.done() for task in asked)
            return (inside, done) == (case["requests"] - refused, refused)

        await eventually("all have arrived", arrived)
        gate.set()
    answers = Counter(f"{task.result().status} {task.result().text}" for task in asked)
    assert dict(answers) == case["answers"]


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")
class TestWholeServer:
    async def test_the_drain_port(self) -> None:
        expected = cases()["drain-port"]["answer"]
        async with served(Echo("m"), drain_quiet_s=0.2) as app:
            answer = await ask(app.server.admin_port, "GET", "/wait-for-drain")
            assert (answer.status, answer.text) == (expected["status"], expected["body"])
            assert answer.headers["content-length"] == expected["headers"]["content-length"]
            probe = cases()["probe-as-kubelet"]["request"]["headers"]
            refused = await ask(app.port, "GET", "/", **{name.replace("-", "_"): text for name, text in probe.items()})
            assert (refused.status, refused.text) == (503, "shutting down\n")

    async def test_the_statistics_port(self) -> None:
        expected = cases()["autoscaling-metrics"]["answer"]
        async with served(Echo("m"), pod="iris-00001-pod") as app:

            async def counted() -> Answer | None:
                await app.v1("m", {"instances": [1]})
                answer = await ask(app.server.admin_port, "GET", "/metrics", None, accept="application/protobuf")
                return answer if answer.body[16:17] == b"\x11" else None  # The tag of a concurrency that is not 0.

            answer = await eventually("a second with a request in it", counted)
        assert answer.headers["content-type"] == expected["headers"]["content-type"]
        assert len(answer.body) == int(expected["headers"]["content-length"])
        assert answer.body.startswith(b"\n\x0eiris-00001-pod\x11")

    async def test_a_probe_that_the_container_refuses(self) -> None:
        case = cases()["probe-user-404"]
        headers = {name.replace("-", "_"): text for name, text in case["request"]["headers"].items()}
        async with served(Echo("m"), readiness_probe='{"httpGet":{"path":"/nope"}}') as app:
            answer = await ask(app.port, "GET", "/", None, **headers)
        assert (answer.status, answer.text) == (case["answer"]["status"], case["answer"]["body"])

    async def test_the_users_metrics_are_on_the_data_port(self) -> None:
        async with served(Echo("m")) as app:
            answer = await app.get("/metrics")
        assert answer.status == cases()["user-metrics"]["answer"]["status"]
        assert "# TYPE request_predict_seconds histogram" in answer.text

    async def test_a_model_that_is_not_loaded_has_no_port_to_be_closed(self) -> None:
        async with served(Echo("m"), load=False) as app:
            answer = await app.v1("m", {"instances": [1]})
        assert answer.status == 503
        assert "Model with name m is not ready" in answer.text

    def test_no_case_is_left_out(self) -> None:
        assert set(DIFFERENT) < set(WHOLE_SERVER) < set(cases())


class Echo(Model):
    def predict(self, request: InferRequest) -> Any:
        return request.instances
