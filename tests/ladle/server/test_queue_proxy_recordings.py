"""Knative's recorded queue-proxy, case by case, against ours in process. The sidecar's tests hold the rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle.clock import SystemClock
from ladle.server.http.application import Answer as Handled
from ladle.server.http.messages import Request, Response
from ladle.server.http.server import HttpServer
from ladle.server.queue_proxy import QueueProxy
from ladle.server.queue_settings import QueueSettings
from tests.ladle.server.wire import ask

GOLDEN = Path(__file__).parents[3] / "../shared/golden/knative/queue-proxy.yaml"
NOT_OURS = {
    "drain-port": "the admin port's, in test_model_server.py",
    "autoscaling-metrics": "the admin port's, in test_model_server.py",
    "user-metrics": "in process they are on the data port, at /metrics",
    "probe-user-404": "the model's readiness takes the place of the user's probe",
    "user-port-closed": "there is no second process",
}


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
@pytest.mark.parametrize("name", cases())
async def test_recorded_case(name: str) -> None:
    if name in NOT_OURS:
        pytest.skip(NOT_OURS[name])
    case = cases()[name]
    async with asyncio.TaskGroup() as tasks:
        clock = SystemClock()
        proxy = QueueProxy(service, lambda: True, tasks=tasks, settings=settings_of(name), clock=clock)
        server = HttpServer(proxy, tasks, clock=clock)
        await server.listen("127.0.0.1", 0)
        await (assert_crowd(server.port, case) if "requests" in case else assert_one(server.port, case))
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


async def assert_crowd(port: int, case: dict[str, Any]) -> None:
    asked = [ask(port, "GET", case["path"]) for _ in range(case["requests"])]
    answers = Counter(f"{answer.status} {answer.text}" for answer in await asyncio.gather(*asked))
    assert dict(answers) == case["answers"]
