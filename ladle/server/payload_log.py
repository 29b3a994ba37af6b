"""KServe's logger around a handler: each request and each answer of status 200 as a CloudEvent to a sink.

Bodies are taken as they pass by; nothing waits for the sink. What cannot be told whole is not told: a body longer than
EVENT_BYTES_MAX, or one that broke off. gRPC and other protocols than HTTP/1.1 are not logged, as by KServe's agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ladle.clock import Clock
from ladle.server.http.application import Answer, Handler
from ladle.server.http.messages import Buffer, ByteStream, Request, Response
from ladle.server.metrics import Counter
from ladle.server.payload_delivery import Delivery
from ladle.server.payload_events import (
    REQUEST_TYPE,
    RESPONSE_TYPE,
    LogMode,
    Passage,
    PayloadLogSettings,
    build_event,
    passage_of,
)

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""Longest body that becomes an event. A guess: with the connections' number it bounds what is copied while it passes."""
_LOGGED_STATUS = 200
"""Only such answers are logged, as by KServe."""
_METRICS_PATH = "/metrics"
"""What is scraped there is no payload."""


class PayloadLog:
    """The logger of one server."""

    def __init__(
        self, settings: PayloadLogSettings, outcomes: Counter, tasks: asyncio.TaskGroup, *, clock: Clock
    ) -> None:
        """`outcomes` counts events by what became of them: sent, failed, dropped."""
        self._settings = settings
        self._clock = clock
        self.delivery = Delivery(settings, outcomes, tasks, clock=clock)

    def around(self, handler: Handler) -> Handler:
        """The handler, with its requests and answers told."""
        tells_requests = self._settings.mode is not LogMode.RESPONSE
        tells_answers = self._settings.mode is not LogMode.REQUEST

        def handle(request: Request) -> Answer:
            if request.upgrade or request.path == _METRICS_PATH:
                return handler(request)
            passage = passage_of(request, self._settings)
            coming = self._tell_request(passage, request) if tells_requests else None
            answer = handler(request)
            if isinstance(answer, Response):
                return self._told(passage, answer, coming, tells_answers)
            return self._told_later(passage, answer, coming, tells_answers)

        return handle

    def _tell_request(self, passage: Passage, request: Request) -> _Collected | None:
        """Tells a request whose body is there; else what collects it as it comes."""
        if request.stream is None or not _announces_body(request):
            self._tell(REQUEST_TYPE, passage, request.body)
            return None
        coming = _Collected(lambda body: self._tell(REQUEST_TYPE, passage, body), self.delivery.drop)
        request.stream.tap = coming
        return coming

    async def _told_later(
        self, passage: Passage, answer: Coroutine[Any, Any, Response], coming: _Collected | None, tells_answers: bool
    ) -> Response:
        return self._told(passage, await answer, coming, tells_answers)

    def _told(self, passage: Passage, response: Response, coming: _Collected | None, tells_answers: bool) -> Response:
        passing = [coming] if coming is not None else []
        if tells_answers and response.status == _LOGGED_STATUS:
            encoding = dict(response.headers).get(b"content-encoding", b"")

            def tell(body: Buffer) -> None:
                self._tell(RESPONSE_TYPE, passage, body, encoding)

            if response.stream is not None:
                answer = _Collected(tell, self.delivery.drop)
                response.stream = _ToldStream(response.stream, answer, [*passing, answer])
                return response
            tell(b"".join(response.body) if isinstance(response.body, tuple) else response.body)
        if response.stream is not None and passing:
            response.stream = _ToldStream(response.stream, None, passing)
        else:
            for collected in passing:  # The answer is there, and nobody reads the rest of the request.
                collected.abandon()
        return response

    def _tell(self, kind: str, passage: Passage, body: Buffer, encoding: bytes | None = None) -> None:
        if len(body) > EVENT_BYTES_MAX:
            self.delivery.drop(_TOO_LONG)
            return
        wall_s = self._clock.wall_s()
        # A copy where the body is a view: the server may use its memory again.
        self.delivery.put(
            build_event(kind, passage, bytes(body), settings=self._settings, wall_s=wall_s, encoding=encoding)
        )


_TOO_LONG = f"a body of more than {EVENT_BYTES_MAX} bytes"


class _Collected:
    """A body that passes by in pieces; told once it is whole, and given up where it is too long or breaks off."""

    __slots__ = ("_drop", "_pieces", "_size", "_tell")

    def __init__(self, tell: Callable[[bytes], None], drop: Callable[[str], None]) -> None:
        self._tell: Callable[[bytes], None] | None = tell
        self._drop = drop
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        if self._tell is None:
            return
        self._size += len(piece)
        if self._size > EVENT_BYTES_MAX:
            self._give_up(_TOO_LONG)
        else:
            self._pieces.append(piece)

    def end(self) -> None:
        """It is whole."""
        if self._tell is not None:
            tell, self._tell = self._tell, None
            tell(b"".join(self._pieces))

    def abandon(self) -> None:
        """No more of it will come."""
        if self._tell is not None:
            self._give_up("a body that broke off")

    def _give_up(self, why: str) -> None:
        self._tell = None
        self._pieces.clear()
        self._drop(why)


class _ToldStream:
    """The stream of an answer: collected as it passes by, and the end of whatever is still incomplete then."""

    __slots__ = ("_answer", "_inner", "_passing")

    def __init__(self, inner: ByteStream, answer: _Collected | None, passing: Sequence[_Collected]) -> None:
        self._inner = inner
        self._answer = answer
        self._passing = passing

    def __aiter__(self) -> _ToldStream:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._inner.__anext__()
        except StopAsyncIteration:
            if self._answer is not None:
                self._answer.end()
            raise
        if self._answer is not None:
            self._answer.add(piece)
        return piece

    async def aclose(self) -> None:
        for collected in self._passing:
            collected.abandon()
        await self._inner.aclose()


def _announces_body(request: Request) -> bool:
    return b"transfer-encoding" in request.headers or request.headers.get(b"content-length", b"0") != b"0"
