"""One request over HTTP/2 and its answer: with its body as a stream, or whole, as the application wants it.

A call of gRPC that the application answers itself (queue full, timeout, no container) gets gRPC's form of it: a status in
trailers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h2.errors
import h2.exceptions

from ladle.log import get_logger
from ladle.server.http.messages import Header, LastWords, Request, Response, has_body, text
from ladle.server.http2.connection import Http2Body, StreamReset
from ladle.server.http2.grpc_status import DEADLINE_EXCEEDED, UNAVAILABLE, grpc_trailers, is_grpc, status_of
from ladle.server.http2.messages import RelayedResponse

if TYPE_CHECKING:
    from ladle.server.http2.server import Http2Connection

log = get_logger(__name__)

_CONTINUE = [(b":status", b"100")]


class ServerStream:
    """One request; implements application.Exchange."""

    def __init__(self, connection: Http2Connection, stream_id: int, request: Request, body: Http2Body) -> None:
        self.request = request
        self.visit: object | None = None
        self.id = stream_id
        self.body = body
        self.answered = False
        self._connection = connection
        self._sending: asyncio.Task[None] | None = None
        self._began = False

    def begin(self, *, ended: bool) -> None:
        """Hands the request over; `ended`: it has no body."""
        if ended:
            self.body.end()
        application = self._connection.server.application
        application.begin(self)
        if not self.answered:
            application.handle(self)

    def feed(self, data: bytes) -> None:
        """The next piece of the request's body."""
        self.body.feed(data)

    def end(self) -> None:
        """The request is complete."""
        self.body.end()

    def respond(self, response: Response) -> None:
        if self.answered:
            if response.stream is not None:
                self._connection.server.tasks.create_task(response.stream.aclose())
            return
        self.answered = True
        self._sending = self._connection.server.tasks.create_task(self._send(response))

    def abandon(self, error: Exception) -> None:
        """The client is gone."""
        self.body.fail(error)
        if not self.answered:
            self.answered = True
            self._connection.server.application.abandon(self)
        elif self._sending is not None and self._began:  # One that has not begun would never close its stream.
            self._sending.cancel()
        self._connection.forget(self)

    async def _send(self, response: Response) -> None:
        self._began = True
        try:
            if response.stream is None:
                await self._send_own(response)
            else:
                await self._relay(response)
        except (OSError, h2.exceptions.ProtocolError) as error:
            self._break_off(error)
        finally:
            if response.stream is not None:
                await response.stream.aclose()
            if not self.body.complete:
                # What is still to come of the request is nobody's (RFC 9113 8.1).
                self._connection.reset(self.id, h2.errors.ErrorCodes.NO_ERROR)
            self._connection.forget(self)

    async def _send_own(self, response: Response) -> None:
        """An answer of the proxy itself."""
        connection = self._connection
        body = response.body if not isinstance(response.body, tuple) else b"".join(response.body)
        if isinstance(response, RelayedResponse):
            headers = response.head
        elif is_grpc(self.request):
            headers, body = status_of(response.status, bytes(body)), b""
        else:
            headers = _own_headers(response, len(body))
        sends_body = bool(body) and has_body(response.status, self.request.method)
        connection.h2.send_headers(self.id, headers, end_stream=not sends_body)
        connection.flush()
        if sends_body:
            await self._send_piece(bytes(body))
            connection.end_stream(self.id)

    async def _relay(self, response: Response) -> None:
        stream, connection = response.stream, self._connection
        assert stream is not None
        head = response.head if isinstance(response, RelayedResponse) else _own_headers(response, response.length)
        connection.h2.send_headers(self.id, head)
        connection.flush()
        async for piece in stream:
            if isinstance(piece, LastWords) and is_grpc(self.request):
                connection.end_stream(self.id, grpc_trailers(DEADLINE_EXCEEDED, piece))
                return
            await self._send_piece(piece)
        connection.end_stream(self.id, response.trailers() if isinstance(response, RelayedResponse) else None)

    async def _send_piece(self, piece: bytes) -> None:
        try:
            async with asyncio.timeout(self._connection.server.limits.write_stall_s):
                await self._connection.send_data(self.id, piece)
        except TimeoutError:
            raise ConnectionAbortedError("the client takes nothing of its answer") from None

    def _break_off(self, error: Exception) -> None:
        """The answer has begun and cannot be finished: the client must not take it for a whole one."""
        log.warning("stream broke off", path=self.request.path, error=repr(error))
        if is_grpc(self.request) and self._connection.open and not isinstance(error, StreamReset):
            self._connection.end_stream(self.id, grpc_trailers(UNAVAILABLE, str(error).encode() or b"EOF"))
        else:
            code = error.code if isinstance(error, StreamReset) else h2.errors.ErrorCodes.INTERNAL_ERROR
            self._connection.reset(self.id, code)


class CollectedStream(ServerStream):
    """One request to an application that wants it whole. Its body has the bounds that it has over HTTP/1.1."""

    def __init__(self, connection: Http2Connection, stream_id: int, request: Request, body: Http2Body) -> None:
        super().__init__(connection, stream_id, request, body)
        request.stream = None
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._heard_s = request.arrived_s
        self._slow_timer: asyncio.TimerHandle | None = None

    def begin(self, *, ended: bool) -> None:
        self._connection.server.application.begin(self)
        if ended:
            self.end()
        elif not self.answered:
            if self.request.headers.get(b"expect", b"").lower() == b"100-continue":
                self._connection.h2.send_headers(self.id, _CONTINUE)
            self._look_again()

    def feed(self, data: bytes) -> None:
        self._connection.read(self.id, len(data))
        if self.answered:
            return
        limits, clock = self._connection.server.limits, self._connection.server.clock
        self._body_bytes += len(data)
        self._heard_s = clock.monotonic_s()
        if self._body_bytes > limits.body_bytes_max:
            self._refuse(text(413, f"request body too large: at most {limits.body_bytes_max} bytes"))
        else:
            self._chunks.append(data)

    def end(self) -> None:
        self._stop_looking()
        self.body.end()
        if self.answered:
            return
        self.request.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        self._connection.server.application.handle(self)

    def abandon(self, error: Exception) -> None:
        self._stop_looking()
        super().abandon(error)

    def _refuse(self, response: Response) -> None:
        """The rest of the request is not wanted, and nobody else's answer any more."""
        self._stop_looking()
        self._chunks = []
        self._connection.server.application.abandon(self)
        self.respond(response)

    def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        self._slow_timer = loop.call_later(self._connection.server.limits.body_stall_s, self._look)

    def _look(self) -> None:
        limits, now_s = self._connection.server.limits, self._connection.server.clock.monotonic_s()
        taken_s, silence_s = now_s - self.request.arrived_s, now_s - self._heard_s
        if limits.too_slow(self._body_bytes, taken_s=taken_s, silence_s=silence_s):
            self._refuse(text(408, "request timeout"))
        else:
            self._look_again()

    def _stop_looking(self) -> None:
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = None


def _own_headers(response: Response, length: int | None) -> list[Header]:
    headers = [(b":status", b"%d" % response.status)]
    if response.content_type:
        headers.append((b"content-type", response.content_type))
    if length is not None and response.status != 204:
        headers.append((b"content-length", b"%d" % length))
    return [*headers, *response.headers]
