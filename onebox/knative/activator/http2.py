"""Requests over HTTP/2: many at once on each connection, to pods over HTTP/2 too, with trailers, as gRPC needs them.

Each stream is a request like any other: it is counted, waits for a place, and has the revision's limits. What the activator
answers itself reaches a client of gRPC as a status.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final, Protocol

from controller.base.clock import Clock
from ladle.server.http.application import Exchange as Stream
from ladle.server.http.limits import HttpLimits
from ladle.server.http.messages import Header, LastWords, Request, Response
from ladle.server.http2.client import ClientStream, Http2ClientConnection, Http2Pool, NotHttp2Error
from ladle.server.http2.connection import Http2Body
from ladle.server.http2.messages import RelayedResponse, request_headers_of
from onebox.knative.activator.carriers import TIMEOUT_TEXT, Carry, ConnectFailed, Forwarded, Refusal, dial_error
from onebox.knative.activator.deadlines import Deadlines, RequestTimeout
from onebox.knative.activator.heads import TEXT, BadRequest, RequestHead, RequestLine, added_headers, parse_request_head
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.targets import RevisionLimits
from onebox.knative.endpoints import Address

_LAST_WORDS: Final = LastWords(TIMEOUT_TEXT.encode())
_WRITE_STALL_S: Final = 300.0
"""How long a client may take nothing of an answer that its revision's limits allow; Knative's default for a request."""


class Beginner(Protocol):
    """Who takes requests."""

    def begin(self, exchange: Forwarded, carry: Carry) -> None:
        """Must not block, must not raise."""
        ...


def http_limits(limits: Limits) -> HttpLimits:
    """The bounds of the server's connections."""
    return HttpLimits(keep_alive_s=limits.keep_alive_s, write_stall_s=_WRITE_STALL_S)


class Http2Application:
    """Makes exchanges of streams; implements http.application.Application."""

    def __init__(self, beginner: Beginner, carrier: Http2Carrier, *, limits: Limits, clock: Clock) -> None:
        self._beginner = beginner
        self._carrier = carrier
        self._limits = limits
        self._clock = clock

    def begin(self, exchange: Stream) -> None:
        """A stream is handled as soon as its headers are there, which is now."""

    def handle(self, exchange: Stream) -> None:
        request = exchange.request
        line = RequestLine(request.method.encode("latin-1"), request.target, http_1_0=False)
        try:
            head = parse_request_head(line, request.raw_headers)
        except BadRequest as refusal:
            exchange.respond(_own_response(refusal.status, f"{refusal}\n"))
            return
        made = exchange.visit = Http2Exchange(exchange, head, self._limits, self._clock)
        self._beginner.begin(made, partial(self._carrier.carry, made))

    def abandon(self, exchange: Stream) -> None:
        made = exchange.visit
        if isinstance(made, Http2Exchange) and made.task is not None:
            made.task.cancel()


class Http2Exchange:
    """One stream and its answer; implements carriers.Forwarded."""

    def __init__(self, stream: Stream, head: RequestHead, limits: Limits, clock: Clock) -> None:
        self.head = head
        self.task: asyncio.Task[None] | None = None
        self.started = False
        self.status = 0
        self.started_s: float | None = None
        self.last_written_s: float | None = None
        self._stream = stream
        self._limits = limits
        self._clock = clock
        self._answer: ClientStream | None = None

    @property
    def request(self) -> Request:
        return self._stream.request

    @property
    def body(self) -> Http2Body:
        body = self._stream.request.stream
        assert isinstance(body, Http2Body), "of every request over HTTP/2"
        return body

    @property
    def held_bytes(self) -> int:
        """What has come of its body, where that is all of it; else what may come before a pod takes it."""
        return self.body.unread if self.body.complete else self._limits.body_held_bytes

    def reply(self, status: int, text: str = "", headers: tuple[Header, ...] = ()) -> None:
        if not self.started:
            self._begin(status)
            self._stream.respond(_own_response(status, text, headers))

    def abort(self) -> None:
        if self._answer is not None:
            self._answer.give_up(ConnectionAbortedError("internal error"))

    async def answer(self, head: list[Header], stream: ClientStream) -> None:
        """Passes a pod's answer on; returns when all of it was, or the client is gone."""
        self._answer = stream
        if stream.body.spent and stream.trailers is None:
            response = RelayedResponse(head, None, _no_trailers)
            self._begin(response.status)
            self._stream.respond(response)
            return
        relay = _Relay(self, stream)
        response = RelayedResponse(head, relay, lambda: stream.trailers)
        relay.sized = response.length is not None
        self._begin(response.status)
        self._stream.respond(response)
        await relay.closed

    def written(self) -> None:
        self.last_written_s = self._clock.monotonic_s()

    def _begin(self, status: int) -> None:
        self.started, self.status = True, status
        self.written()
        self.started_s = self.last_written_s


def _own_response(status: int, text: str, headers: tuple[Header, ...] = ()) -> Response:
    return Response(status, text.encode(), content_type=TEXT if text else b"", headers=headers)


def _no_trailers() -> None:
    """Of an answer that is headers only."""


class _Relay:
    """The body of a pod's answer, on its way to the client."""

    def __init__(self, exchange: Http2Exchange, stream: ClientStream) -> None:
        self.sized = False
        """Whether the answer's length is announced, so that there is no room for a text of ours."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._exchange = exchange
        self._stream = stream
        self._late = False

    def __aiter__(self) -> _Relay:
        return self

    async def __anext__(self) -> bytes:
        if self._late:
            raise StopAsyncIteration
        try:
            piece = await self._stream.body.__anext__()
        except RequestTimeout:
            if self.sized:
                raise ConnectionAbortedError(TIMEOUT_TEXT) from None
            self._late = True
            return _LAST_WORDS
        self._exchange.written()
        return piece

    async def aclose(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


class Http2Carrier:
    """Connections to pods over HTTP/2."""

    def __init__(self, tasks: asyncio.TaskGroup, *, limits: Limits, clock: Clock) -> None:
        self._tasks = tasks
        self._limits = limits
        self._clock = clock
        self._pools: dict[Address, Http2Pool] = {}

    async def carry(self, exchange: Http2Exchange, address: Address, limits: RevisionLimits) -> None:
        connection = await self._connect(address)
        body = exchange.body
        stream = connection.begin(_headers_for_pod(exchange, address), end_stream=body.spent)
        deadlines = Deadlines(exchange, stream.give_up, limits=limits, clock=self._clock)
        try:
            if not stream.sent_all:
                stream.sender = self._tasks.create_task(stream.send(body))
            head = await stream.head
            await exchange.answer(head, stream)
        except RequestTimeout:
            raise Refusal(504, TIMEOUT_TEXT, ()) from None
        except OSError as error:
            raise Refusal(502, f"{error}\n") from None
        finally:
            deadlines.stop()
            stream.close()

    def sweep(self) -> None:
        """Closes what has been idle for too long."""
        for address, pool in list(self._pools.items()):
            if not pool.sweep(self._limits.pod_idle_s):
                del self._pools[address]

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    async def _connect(self, address: Address) -> Http2ClientConnection:
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = Http2Pool(address.host, address.port)
        try:
            return await pool.connection(connect_s=self._limits.connect_s)
        except NotHttp2Error as error:
            raise Refusal(502, f"{error}\n") from error
        except OSError as error:
            raise ConnectFailed(dial_error(address, error)) from error


def _headers_for_pod(exchange: Http2Exchange, address: Address) -> list[Header]:
    head = exchange.head
    fields = [*((name.lower(), value) for name, value in head.passed_on), *added_headers(head)]
    return request_headers_of(exchange.request, authority=str(address).encode(), fields=fields)
