"""The onebox API server without a network: its real handlers, called in the client's own process, and what can go wrong."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
from aiohttp import web
from multidict import CIMultiDict, MultiDict

from controller.base.clock import Clock
from controller.base.json import JsonObject, JsonView
from controller.kube.client import Deadlines, KubeClient, WatchEvent, WatchType
from controller.kube.errors import Gone, error_of_answer, error_of_status, no_answer
from controller.kube.resources import ResourceType
from onebox.apiserver.context import Server
from onebox.apiserver.dispatch import Dispatcher
from onebox.apiserver.objects.encoding import object_bytes
from onebox.apiserver.requests import Target, parse_target
from onebox.apiserver.selectors import Selector, parse_fields, parse_labels
from onebox.apiserver.server import open_server
from onebox.apiserver.status import PageNotFound, Refused
from onebox.apiserver.storage.records import ChangeType, Record
from onebox.apiserver.watches import Watcher
from onebox.home import Home, OneboxSettings


@dataclass(slots=True)
class Faults:
    """What goes wrong between a client and the API server, as probabilities for each request or event."""

    rng: random.Random
    refused: float = 0.0
    """The request never arrives."""
    answer_lost: float = 0.0
    """The request is carried out, and the client hears nothing."""
    watch_broken: float = 0.0
    repeated: float = 0.0
    """An event of a watch comes twice."""
    delay_max_s: float = 0.02

    def happens(self, probability: float) -> bool:
        return self.rng.random() < probability

    async def delay(self) -> None:
        await asyncio.sleep(self.rng.random() * self.delay_max_s)


class _Request(dict[str, Any]):
    """As much of aiohttp's request as the handlers read."""

    def __init__(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> None:
        super().__init__({"ladle.user": headers["User-Agent"]})
        self.method, self.path, self._body = method, path, body
        self.query, self.headers = MultiDict(query), CIMultiDict(headers)

    async def read(self) -> bytes:
        return self._body


class SimClient(KubeClient):
    """A KubeClient whose server is in this process."""

    def __init__(self, server: Server, name: str, faults: Faults) -> None:
        self._server = server
        self._dispatcher = Dispatcher.__new__(Dispatcher)
        self._dispatcher._server = server
        self._name = name
        self._faults = faults
        self._deadlines = Deadlines()
        self.writes: Counter[str] = Counter()

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonView | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        await self._faults.delay()
        if self._faults.happens(self._faults.refused):
            raise no_answer(f"{method} {path}: connection refused")
        content = b"" if body is None else orjson.dumps(body)
        headers = {"User-Agent": self._name, "Accept": "application/json", "Content-Type": content_type}
        answer = await self._answer(_Request(method, path, query or {}, headers, content))
        if method != "GET":
            self.writes[f"{method} {path}"] += 1
        if self._faults.happens(self._faults.answer_lost):
            raise no_answer(f"{method} {path}: connection reset")
        await self._faults.delay()
        parsed: JsonObject = orjson.loads(answer)
        return parsed

    async def _answer(self, request: _Request) -> bytes:
        try:
            answer = cast(web.Response, await self._dispatcher._route(cast(web.BaseRequest, request)))
        except Refused as refusal:
            raise error_of_status(refusal.body()) from None
        except PageNotFound:
            raise error_of_answer(404, b"404 page not found") from None
        return cast(bytes, answer.body)

    async def watch(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float,
    ) -> AsyncGenerator[WatchEvent, None]:
        await self._faults.delay()
        if self._faults.happens(self._faults.refused):
            raise no_answer(f"watch of {resource.plural}: connection refused")
        target = parse_target(resource.path(namespace), self._server.registry)
        selector = Selector(parse_labels(label_selector), parse_fields(field_selector, ("metadata.name",)))
        watcher = Watcher(
            target.resource.key, namespace or "", selector, lambda *change: _line(target, *change), object()
        )
        if not self._server.watches.add(watcher, int(resource_version)):
            raise Gone(410, "Expired", f"too old resource version: {resource_version}")
        try:
            async for event in _events(watcher, asyncio.get_running_loop().time() + timeout_s):
                if self._faults.happens(self._faults.watch_broken):
                    raise no_answer(f"watch of {resource.plural} broke")
                await self._faults.delay()
                yield event
                if self._faults.happens(self._faults.repeated):
                    yield event
        finally:
            self._server.watches.remove(watcher)


async def _events(watcher: Watcher, deadline_s: float) -> AsyncIterator[WatchEvent]:
    loop = asyncio.get_running_loop()
    while loop.time() < deadline_s and not watcher.lagging:
        for line in (await watcher.take(deadline_s - loop.time())).splitlines():
            event = orjson.loads(line)
            yield WatchEvent(WatchType(event["type"]), event["object"])


def _line(target: Target, type_: ChangeType, record: Record) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (type_.value.encode(), object_bytes(record, target))


@asynccontextmanager
async def open_api(root: Path, clock: Clock, rng: random.Random) -> AsyncIterator[Server]:
    """An API server that only its own process can reach, with Ladle's and Knative's kinds installed."""
    home = Home(root)
    home.write_settings(OneboxSettings())
    async with open_server(home, clock, rng) as server:
        server.admissions.load()
        server.store._database.commit = lambda changes, compact_to=0: None  # Durability is tested elsewhere, on a disk.
        yield server
