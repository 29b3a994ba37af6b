"""The onebox API server without a network: its real handlers, called in the client's own process, and what can go wrong."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
from aiohttp import web
from multidict import CIMultiDict, MultiDict

from controller.base.clock import Clock
from controller.base.json import JsonObject, JsonView
from controller.kube.client import Deadlines, KubeClient
from controller.kube.errors import Gone, error_of_answer, error_of_status, no_answer
from onebox.apiserver.context import Server
from onebox.apiserver.dispatch import Dispatcher
from onebox.apiserver.handlers.reading import parse_selector
from onebox.apiserver.objects.encoding import object_bytes
from onebox.apiserver.requests import Target, parse_target
from onebox.apiserver.server import open_server
from onebox.apiserver.status import PageNotFound, Refused
from onebox.apiserver.storage.records import ChangeType, Record
from onebox.apiserver.watches import Watcher
from onebox.home import Home, OneboxSettings
from onebox.workloads.run import run as run_workloads

_SETTLE_S = 10.0


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

    async def _watch_lines(
        self, path: str, query: Mapping[str, str], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        await self._faults.delay()
        if self._faults.happens(self._faults.refused):
            raise no_answer(f"watch of {path}: connection refused")
        target = parse_target(path, self._server.registry)
        selector = parse_selector(
            cast(web.BaseRequest, _Request("GET", path, query, {"User-Agent": self._name}, b"")), target
        )
        encode = partial(_line, target)
        watcher = Watcher(target.resource.key, target.namespace, selector, encode, target.version.name)
        since = query["resourceVersion"]
        if not self._server.watches.add(watcher, int(since)):
            raise Gone(410, "Expired", f"too old resource version: {since}")
        try:
            async for line in _lines(watcher, asyncio.get_running_loop().time() + timeout_s):
                if self._faults.happens(self._faults.watch_broken):
                    raise no_answer(f"watch of {path} broke")
                await self._faults.delay()
                yield line
                if self._faults.happens(self._faults.repeated):
                    yield line
        finally:
            self._server.watches.remove(watcher)


async def _lines(watcher: Watcher, deadline_s: float) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    while loop.time() < deadline_s and not watcher.lagging:
        for line in (await watcher.take(deadline_s - loop.time())).splitlines():
            yield line


def _line(target: Target, type_: ChangeType, record: Record) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (type_.value.encode(), object_bytes(record, target))


@asynccontextmanager
async def open_api(root: Path, clock: Clock, rng: random.Random) -> AsyncIterator[Server]:
    """An API server that only its own process can reach, with Ladle's and Knative's kinds installed."""
    home = Home(root)
    home.write_settings(OneboxSettings())
    async with open_server(home, clock, rng) as server:
        server.admissions.load()
        # Durability is tested elsewhere, on a disk.
        server.store._database.commit = lambda changes, compact_to=0: None  # type: ignore[method-assign]
        await _settle(server, clock)
        yield server


async def _settle(server: Server, clock: Clock) -> None:
    """Lets the workload controllers furnish the namespaces that every server has: the first world must find what others do."""
    client = SimClient(server, "workloads", Faults(random.Random(0)))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_workloads(client, server.home, clock, random.Random(0)))
        await asyncio.sleep(_SETTLE_S)
        running.cancel()
