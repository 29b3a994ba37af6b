"""KServe's recorded cases of its logger, a service that answers as the recorded one did, and a sink for events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from ladle.clock import SystemClock
from ladle.server.http.application import Dispatcher, Handler
from ladle.server.http.messages import Request, Response
from ladle.server.http.server import HttpServer
from ladle.server.payload_events import PayloadLogSettings
from tests.ladle.server.wire import Answer, ask
from tests.waiting import eventually

GOLDEN = Path(__file__).parents[3] / "../shared/golden/kserve/agent.yaml"
_OF_THE_CONNECTION = ("host", "content-length", "connection")
_CHOSEN = ("ce-id", "ce-time")


def recorded() -> dict[str, Any]:
    """The logger's cases by name; none where the recordings are not here."""
    cases = yaml.safe_load(GOLDEN.read_text()) if GOLDEN.exists() else {}
    return {name: case for name, case in cases.items() if name.startswith("logger-")}


def flags(port: int, mode: str = "all", **others: str) -> list[str]:
    """As KServe's agent was started for the recordings, with the sink at `port`."""
    said = {
        "log-url": f"http://127.0.0.1:{port}/sink?a=b",
        "source-uri": "iris-predictor-00001",
        "log-mode": mode,
        "inference-service": "iris",
        "namespace": "default",
        "endpoint": "default",
        "component": "predictor",
        "metadata-headers": "X-Team",
        "logger-tls-skip-verify": "false",
        **{name.replace("_", "-"): value for name, value in others.items()},
    }
    return [word for name, value in said.items() for word in (f"--{name}", value)]


def settings(port: int, mode: str = "all", **others: str) -> PayloadLogSettings:
    parsed = PayloadLogSettings.parse(flags(port, mode, **others), {})
    assert parsed is not None
    return parsed


def seen(request: Request) -> dict[str, Any]:
    """A request as the recordings show one."""
    headers = {name.decode(): value.decode() for name, value in request.headers.items()}
    kept = {name: value for name, value in headers.items() if name not in _OF_THE_CONNECTION}
    return {"method": request.method, "path": request.path, "headers": kept, "body": bytes(request.body).decode()}


class Replay:
    """The recorded service of one case."""

    def __init__(self, case: dict[str, Any]) -> None:
        self._answer = case["answer"]
        self.saw: list[dict[str, Any]] = []

    def __call__(self, request: Request) -> Response:
        self.saw.append(seen(request))
        kind = self._answer["headers"]["content-type"].encode()
        return Response(self._answer["status"], self._answer["body"].encode(), content_type=kind)


class Sink:
    """Takes events, at once or when `opened` is set."""

    def __init__(self, status: int = 202) -> None:
        self.events: list[dict[str, Any]] = []
        self.targets: list[bytes] = []
        self.opened = asyncio.Event()
        self.opened.set()
        self.port = 0
        self._status = status
        self._asked = False

    async def is_asked(self) -> bool:
        """Whether anything has come, taken or not."""
        return self._asked

    async def __call__(self, request: Request) -> Response:
        self._asked = True
        await self.opened.wait()
        self.targets.append(request.target)
        self.events.append(seen(request))
        return Response(self._status)

    async def has(self, count: int) -> list[dict[str, Any]]:
        """The events once there are so many."""

        async def enough() -> bool:
            return len(self.events) >= count

        await eventually(f"{count} events", enough)
        return self.events


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """The port of a server of this handler, while the block runs."""
    async with asyncio.TaskGroup() as tasks:
        server = HttpServer(Dispatcher(handler, tasks), tasks, clock=SystemClock())
        try:
            yield await server.listen("127.0.0.1", 0)
        finally:
            server.close()


@contextlib.asynccontextmanager
async def sinking(status: int = 202) -> AsyncIterator[Sink]:
    sink = Sink(status)
    async with listening(sink) as sink.port:
        yield sink


async def send(port: int, case: dict[str, Any]) -> Answer:
    """The recorded request."""
    request = case["request"]
    body = request["body"].encode() if request["body"] is not None else None
    method = "GET" if body is None else "POST"
    headers = {name.replace("-", "_"): value for name, value in request["headers"].items()}
    return await ask(port, method, request["path"], body, **headers)


async def check(case: dict[str, Any], answer: Answer, sink: Sink) -> None:
    """The answer and the events are the recorded ones; those of one request have one id."""
    assert (answer.status, answer.text) == (case["answer"]["status"], case["answer"]["body"])
    assert answer.headers["content-type"] == case["answer"]["headers"]["content-type"]
    events = await sink.has(len(case["events"]))
    # Several senders: the order in which events arrive is open.
    order = [event["headers"]["ce-type"] for event in case["events"]]
    found = sorted(events, key=lambda event: order.index(event["headers"]["ce-type"]))
    expected = [(_chosen_left_out(event["headers"]), event["body"] or "") for event in case["events"]]
    assert [(_chosen_left_out(event["headers"]), event["body"]) for event in found] == expected
    ids = {event["headers"]["ce-id"] for event in found}
    own = case["request"]["headers"].get("Ce-Id")
    assert ids == {own} if own else len(ids) == min(1, len(found))


def _chosen_left_out(headers: dict[str, str]) -> dict[str, str]:
    assert all(headers[name] for name in _CHOSEN)
    return {name: value for name, value in headers.items() if name not in _CHOSEN}
