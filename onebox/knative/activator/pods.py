"""Connections to pods: HTTP/1.1, kept between requests, one request at a time on each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Protocol, cast

import httptools

from controller.base.clock import Clock
from onebox.knative.activator.heads import (
    HEAD_BYTES_MAX,
    BadRequest,
    Header,
    ResponseHead,
    parse_response_head,
)
from onebox.knative.activator.limits import Limits
from onebox.knative.endpoints import Address


class PodFailed(Exception):
    """The pod broke the connection off, or what it says is not HTTP; the text is for the client."""


class Client(Protocol):
    """Who a pod's answer is for."""

    def answer_head(self, head: ResponseHead) -> None: ...

    def answer_body(self, chunk: bytes) -> None: ...

    def answer_switched(self, pod: PodConnection, first: bytes) -> None:
        """The pod agreed to another protocol: from here on bytes are carried both ways, and `first` are the pod's."""
        ...

    def set_reading(self, reading: bool) -> None:
        """Whether more of the request's body is wanted now."""
        ...


class PodConnection(asyncio.Protocol):
    """One connection; `send` a request, then feed its body."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.idle_since_s = 0.0
        self.switched = False
        self._transport: asyncio.Transport | None = None
        self._client: Client | None = None
        self._method = b""
        self._chunked_request = False
        self._request_ended = False
        self._answer: ResponseHead | None = None
        self._done: asyncio.Future[None] | None = None
        self._keep = True
        self._reset_parser()

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._keep and self._done is None and self._transport is not None and not self._transport.is_closing()

    @property
    def started(self) -> bool:
        """Whether the head of the answer was passed on."""
        return self._answer is not None

    def send(self, head: bytes, client: Client, *, method: bytes, chunked: bool) -> asyncio.Future[None]:
        """Sends a request's head; the future ends with the answer, or with PodFailed."""
        assert self._transport is not None
        assert self.usable
        self._client, self._method, self._chunked_request = client, method, chunked
        self._answer, self._request_ended = None, False
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(head)
        return self._done

    def send_body(self, chunk: bytes) -> None:
        if self._transport is not None and self._done is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked_request else chunk)

    def end_body(self) -> None:
        self._request_ended = True
        if self._chunked_request and self._transport is not None and self._done is not None:
            self._transport.write(b"0\r\n\r\n")

    def write(self, data: bytes) -> None:
        """Bytes of whatever protocol was agreed on."""
        if self._transport is not None:
            self._transport.write(data)

    def fail(self, error: Exception) -> None:
        """Ends the request with this error, and the connection."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
        self.close()

    def close(self) -> None:
        self._keep = False
        self._client = None
        if self._transport is not None:
            self._transport.abort()

    def free(self, now_s: float) -> bool:
        """Takes leave of the request; whether the connection can serve another one."""
        finished = self._done is not None and self._done.done() and not self._done.cancelled()
        clean = finished and self._request_ended and self._done is not None and self._done.exception() is None
        self._done = self._client = None
        self.idle_since_s = now_s
        if not clean:
            self.close()
        return self.usable

    def set_reading(self, reading: bool) -> None:
        """Whether the client takes more of the answer now."""
        if self._transport is not None and not self._transport.is_closing():
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance.

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep = False
        self._transport = None
        answer = self._answer
        until_close = answer is not None and answer.content_length is None and not answer.chunked
        if self.switched or (until_close and exc is None):
            self._finish()
        elif self._done is not None and not self._done.done():
            self._done.set_exception(PodFailed(str(exc) if exc else "EOF"))

    def pause_writing(self) -> None:
        if self._client is not None:
            self._client.set_reading(False)

    def resume_writing(self) -> None:
        if self._client is not None:
            self._client.set_reading(True)

    def data_received(self, data: bytes) -> None:
        if self.switched:
            if self._client is not None:
                self._client.answer_body(data)
            return
        if self._done is None or self._done.done():
            self.close()  # Bytes that nobody asked for: whatever they are, the next answer must not begin with them.
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            self._switch(data[switch.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, BadRequest):
                raise
            self.fail(PodFailed(f"malformed HTTP response: {error.__context__}"))
        except httptools.HttpParserError as error:
            self.fail(PodFailed(f"malformed HTTP response: {error}"))

    # Called by the parser.

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            raise BadRequest(502, "headers too long")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return  # Interim answers are for this hop.
        self._keep = self._keep and self._parser.should_keep_alive()
        self._answer = parse_response_head(status, self._reason, self._headers)
        if self._client is not None:
            self._client.answer_head(self._answer)
        if not self._answer.has_body(self._method) and status != 101:
            # The parser does not know of HEAD and would wait for the body; what follows needs a new one.
            self._finish()

    def on_body(self, chunk: bytes) -> None:
        if self._client is not None and self._answer is not None and self._answer.has_body(self._method):
            self._client.answer_body(chunk)

    def on_message_complete(self) -> None:
        if self._answer is None:
            self._reset_head()  # An interim answer.
        elif self._answer.status != 101:
            self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
        self._reset_parser()

    def _switch(self, first: bytes) -> None:
        self.switched = True
        self._keep = False
        if self._client is not None:
            self._client.answer_switched(self, first)

    def _reset_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._reset_head()

    def _reset_head(self) -> None:
        self._reason = b""
        self._headers: list[Header] = []
        self._head_bytes = 0


class PodPool:
    """Idle connections by pod."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._idle: dict[Address, list[PodConnection]] = {}

    def take(self, address: Address) -> PodConnection | None:
        """The connection that was used last, so that the others can grow old."""
        idle = self._idle.get(address, [])
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    async def connect(self, address: Address) -> PodConnection:
        """A new connection; OSError where none can be made, in which case nothing was sent."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limits.connect_s):
            _, connection = await loop.create_connection(lambda: PodConnection(address), address.host, address.port)
        return connection

    def give(self, connection: PodConnection) -> None:
        """Takes a connection back after a request, if it can be used again."""
        if not connection.free(self._clock.monotonic_s()):
            return
        idle = self._idle.setdefault(connection.address, [])
        if len(idle) < self._limits.pod_idle_connections_max:
            idle.append(connection)
        else:
            connection.close()

    def sweep(self) -> None:
        """Closes what has been idle for too long."""
        oldest_s = self._clock.monotonic_s() - self._limits.pod_idle_s
        for address, idle in list(self._idle.items()):
            kept = [connection for connection in idle if connection.usable and connection.idle_since_s > oldest_s]
            self._close(connection for connection in idle if connection not in kept)
            if kept:
                self._idle[address] = kept
            else:
                del self._idle[address]

    def close(self) -> None:
        for idle in self._idle.values():
            self._close(idle)
        self._idle.clear()

    def _close(self, connections: Iterable[PodConnection]) -> None:
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.close()
