"""KServe's batcher in front of a server that is not ours: V1 predictions put together, each answer taken apart again.

Only `POST …:predict` is batched, with a JSON object that has `instances` and nothing else; whatever else comes goes through
as it is. What is put together has the same path, host and credentials, and these headers are what the container sees of a
batch. When the container answers a batch with an error, its requests are asked one by one, so that each gets its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import orjson

from ladle.clock import Clock
from ladle.server.batch_queue import BatchQueue, BatchSettings
from ladle.server.http.application import Answer
from ladle.server.http.body import BodyStream
from ladle.server.http.messages import JSON, Request, Response, text
from runtimes.queueproxy.reverse_proxy import ReverseProxy

BATCHED_BYTES_MAX = 8 * 1024 * 1024
"""Longest body that is collected to be batched, and whose length has to be announced; others stream through. A guess: with
the breaker's bounds it limits what waits in memory."""
ANSWER_BYTES_MAX = 256 * 1024 * 1024
"""Longest answer to a batch that is collected; a longer one is an error. A guess."""
_SHARED_HEADERS = frozenset({b"host", b"authorization", b"cookie", b"k-original-host"})
"""What the container may decide by: equal within a batch, and passed on."""
_PREDICT = ":predict"

_Part: TypeAlias = "list[Any] | Response"
"""The predictions of one request, or what it gets instead."""


class BatchingProxy:
    """An http Handler around a reverse proxy."""

    def __init__(self, proxy: ReverseProxy, *, settings: BatchSettings, tasks: asyncio.TaskGroup, clock: Clock) -> None:
        self._proxy = proxy
        self._queue: BatchQueue[_Ask, _Part] = BatchQueue(self._answer, settings=settings, tasks=tasks, clock=clock)

    def __call__(self, request: Request) -> Answer:
        if request.method == "POST" and request.path.endswith(_PREDICT) and _is_collectable(request):
            return self._predict(request)
        return self._proxy(request)

    async def _predict(self, request: Request) -> Response:
        body = await _collect(request)
        try:
            parsed = orjson.loads(body)
        except ValueError:
            return text(400, "can't Unmarshal body")
        rows = parsed.get("instances") if isinstance(parsed, dict) else None
        if not isinstance(rows, list) or not rows:
            return text(400, "no instances in the request")
        if len(parsed) > 1:  # Parameters and the like: they are for these rows, not for somebody else's.
            return await self._proxy(_with_body(request, body))
        ask = _Ask(request, body, rows)
        outcome = await self._queue.submit(ask.key, ask, len(rows))
        if isinstance(outcome.part, Response):
            return outcome.part
        return _json(200, {"message": "", "batchId": outcome.batch_id, "predictions": outcome.part})

    async def _answer(self, asks: Sequence[_Ask]) -> Sequence[_Part | Exception]:
        answer = await self._ask(_merged(asks))
        if answer.status == 200:
            return _split(answer, asks)
        if len(asks) == 1:
            return [answer]
        return [await self._alone(ask) for ask in asks]

    async def _alone(self, ask: _Ask) -> _Part:
        answer = await self._ask(_with_body(ask.request, ask.body))
        return _split(answer, [ask])[0] if answer.status == 200 else answer

    async def _ask(self, request: Request) -> Response:
        """The container's answer in one piece; 502 where that is too long or breaks off."""
        response = await self._proxy(request)
        stream = response.stream
        if stream is None:
            return response
        pieces, size = [], 0
        try:
            async for piece in stream:
                pieces.append(piece)
                size += len(piece)
                if size > ANSWER_BYTES_MAX:
                    return text(502, f"answer to a batch of more than {ANSWER_BYTES_MAX} bytes")
        except OSError as error:
            return text(502, str(error) or "EOF")
        finally:
            await stream.aclose()
        return Response(response.status, b"".join(pieces), content_type=b"", headers=response.headers)


class _Ask:
    """One request that can share a batch."""

    def __init__(self, request: Request, body: bytes, rows: list[Any]) -> None:
        self.request = request
        self.body = body
        self.rows = rows
        self.headers = [header for header in request.raw_headers if header[0] in _SHARED_HEADERS]

    @property
    def key(self) -> Hashable:
        """What has to be equal for two of them to share one."""
        return self.request.target, tuple(self.headers)


def _merged(asks: Sequence[_Ask]) -> Request:
    if len(asks) == 1:
        return _with_body(asks[0].request, orjson.dumps({"instances": asks[0].rows}))
    request = Request("POST", asks[0].request.target, [*asks[0].headers, (b"content-type", JSON)])
    request.peer = asks[0].request.peer
    return _with_body(request, orjson.dumps({"instances": [row for ask in asks for row in ask.rows]}))


def _with_body(request: Request, body: bytes) -> Request:
    """The request with this body in one piece; it was collected, or made of several."""
    headers = [header for header in request.raw_headers if header[0] not in (b"content-length", b"transfer-encoding")]
    changed = Request(request.method, request.target, [*headers, (b"content-length", b"%d" % len(body))])
    changed.peer = request.peer
    changed.stream = BodyStream(_nothing, _nothing)
    changed.stream.feed(body)
    changed.stream.end()
    return changed


def _nothing() -> None:
    """Where a whole body lies in memory there is nobody to be paused."""


def _split(answer: Response, asks: Sequence[_Ask]) -> list[_Part]:
    """Each request's own predictions; where their number is not that of the rows, an error for all."""
    body, expected = answer.body, sum(len(ask.rows) for ask in asks)
    assert isinstance(body, bytes), "collected in one piece"
    try:
        parsed = orjson.loads(body)
    except ValueError:
        parsed = None
    found = parsed.get("predictions") if isinstance(parsed, dict) else None
    if not isinstance(found, list) or len(found) != expected:
        count = len(found) if isinstance(found, list) else "no"
        error = {"error": f"the model answered {count} rows for a batch of {expected}"}
        return [_json(500, error) for _ in asks]
    rows = iter(found)
    return [[next(rows) for _ in ask.rows] for ask in asks]


def _json(status: int, value: object) -> Response:
    return Response(status, orjson.dumps(value))


def _is_collectable(request: Request) -> bool:
    length = request.headers.get(b"content-length", b"")
    return length.isdigit() and int(length) <= BATCHED_BYTES_MAX and b"content-encoding" not in request.headers


async def _collect(request: Request) -> bytes:
    assert request.stream is not None, "a proxy's server streams bodies"
    return b"".join([piece async for piece in request.stream])
