"""HTTP/1.1 towards one server: pooled connections, streamed bodies both ways. What a proxy needs and no more.

Errors are those of the network, as OSError, and BadResponse for what is no HTTP. A response's body is bounded: where
nobody reads it, the server is not read either.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import httptools

from ladle.server.http.body import BodyStream
from ladle.server.http.messages import Header

IDLE_CONNECTIONS_MAX = 1000
"""Kept for the next request; Knative's queue-proxy keeps as many where concurrency has no limit."""
_LAST_CHUNK = b"0\r\n\r\n"
_INFORMATIONAL = range(100, 200)
_SWITCHING = 101


class BadResponse(OSError):
    """The server's bytes are no HTTP response."""


class NeverAnsweredError(ConnectionResetError):
    """The connection ended before the first byte of an answer: nobody knows whether the request was seen."""


@dataclass(slots=True)
class ResponseHead:
    status: int
    headers: list[Header] = field(default_factory=list)


class ClientConnection(asyncio.Protocol):
    """One connection to the server, for one exchange at a time."""

    def __init__(self, pool: ClientPool) -> None:
        self._pool = pool
        self._loop = pool.loop
        self._transport: asyncio.Transport | None = None
        self._drained: asyncio.Future[None] | None = None
        self.reused = False
        self._clear()

    def _clear(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[Header] = []
        self._head: asyncio.Future[ResponseHead] | None = None
        self._body: BodyStream | None = None
        self._bodiless = False
        self._sent_all = False
        self._keep_alive = False
        self._answered = False
        self._switched = False
        """Whether the connection speaks another protocol now: all that comes is the body."""

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # An exchange, as its user sees it.

    async def request(
        self, head: bytes, *, body: AsyncIterator[bytes] | None, chunked: bool, head_only: bool
    ) -> ResponseHead:
        """Sends a request, and returns the response's head as soon as it is there, perhaps before all is sent."""
        if not self.open:
            raise NeverAnsweredError("the connection was closed")
        assert self._transport is not None
        self._bodiless = head_only
        self._head = self._loop.create_future()
        self._body = BodyStream(self._pause, self._resume)
        self._transport.write(head)
        if body is None:
            self._sent_all = True
            return await self._head
        assert self._pool.tasks is not None, "streamed bodies need tasks"
        sender = self._pool.tasks.create_task(self._send(body, chunked))
        try:
            return await self._head
        finally:
            if not self._head.done() or self._head.cancelled() or self._head.exception() is not None:
                sender.cancel()

    async def read(self) -> AsyncIterator[bytes]:
        """The pieces of the body."""
        assert self._body is not None, "only after a request"
        async for piece in self._body:
            yield piece

    async def next_piece(self) -> bytes:
        """The next piece of the body; StopAsyncIteration after the last one."""
        assert self._body is not None, "only after a request"
        return await self._body.__anext__()

    def release(self) -> None:
        """The exchange is over: keeps the connection for another one, or closes it if it cannot be used again."""
        body = self._body
        if (
            self.open
            and self._keep_alive
            and self._sent_all
            and body is not None
            and body.complete
            and not self._bodiless
        ):
            self._clear()
            self.reused = True
            self._pool.keep(self)
        else:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _send(self, body: AsyncIterator[bytes], chunked: bool) -> None:
        """Sends the body. Where it breaks off, so does the connection: the server must not take a part for the whole."""
        try:
            async for piece in body:
                if self._transport is None:
                    return
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                if self._drained is not None:
                    await asyncio.shield(self._drained)
            if chunked and self._transport is not None:
                self._transport.write(_LAST_CHUNK)
            self._sent_all = True
        except OSError:
            self.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.forget(self)
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
        body = self._body
        if body is None or body.complete:
            return
        if exc is None and (self._switched or (self._answered and self._ends_with_close())):
            body.end()
        else:
            error = exc if isinstance(exc, OSError) else ConnectionResetError("EOF")
            self._fail(error if self._answered else NeverAnsweredError(str(error)))

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            self.close()  # Nobody asked.
            return
        if self._switched:
            self._feed_raw(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._keep_alive = False
            self._switched = self._answered and self._parser.get_status_code() == _SWITCHING
            if self._switched:
                self._feed_raw(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if self._body is not None and self._body.complete:
                self._keep_alive = False
                return
            self._fail(BadResponse(f"malformed HTTP response: {error}"))
            self.close()

    def _feed_raw(self, data: bytes) -> None:
        if data and self._body is not None:
            self._body.feed(data)

    def eof_received(self) -> bool:
        return False

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status in _INFORMATIONAL and status != _SWITCHING:
            return
        self._answered = True
        self._keep_alive = self._parser.should_keep_alive()
        if self._head is not None and not self._head.done():
            self._head.set_result(ResponseHead(status, self._headers))
        if self._bodiless and self._body is not None:
            self._body.end()

    def on_body(self, body: bytes) -> None:
        if self._body is not None and not self._bodiless:
            self._body.feed(body)

    def on_message_complete(self) -> None:
        if not self._answered:
            self._headers = []  # It was a 100 or 103: the answer is still to come.
        elif self._parser.get_status_code() != _SWITCHING and self._body is not None and not self._body.complete:
            self._body.end()

    def _fail(self, error: Exception) -> None:
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
        if self._body is not None:
            self._body.fail(error)

    def _ends_with_close(self) -> bool:
        """Whether the body has no other end than the connection's."""
        names = {name for name, _ in self._headers}
        return not names & {b"content-length", b"transfer-encoding"}

    def _pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()


class ClientPool:
    """Connections to one address; idle ones are used again, the newest first."""

    def __init__(
        self,
        host: str,
        port: int,
        tasks: asyncio.TaskGroup | None,
        *,
        idle_max: int = IDLE_CONNECTIONS_MAX,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        """`tasks` send streamed bodies: None where there are none. `server_name`: whose certificate TLS wants to see."""
        self.host = host
        self.port = port
        self.tasks = tasks
        self.loop = asyncio.get_running_loop()
        self._idle_max = idle_max
        self._tls = tls
        self._server_name = server_name
        self._idle: deque[ClientConnection] = deque()

    async def connection(self, *, fresh: bool = False) -> ClientConnection:
        """An open connection, a new one where `fresh` or none is idle; OSError where that cannot be had."""
        while self._idle and not fresh:
            kept = self._idle.pop()
            if kept.open:
                return kept
        _, connection = await self.loop.create_connection(
            lambda: ClientConnection(self), self.host, self.port, ssl=self._tls, server_hostname=self._server_name
        )
        return connection

    def keep(self, connection: ClientConnection) -> None:
        if len(self._idle) < self._idle_max:
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def close(self) -> None:
        """Closes what is idle."""
        for connection in list(self._idle):
            connection.close()
        self._idle.clear()
