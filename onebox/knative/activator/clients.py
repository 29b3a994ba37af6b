"""Connections of clients: bytes in, exchanges one after the other, bytes out.

An exchange is one request and its answer. Bodies are carried piece by piece, and whoever is slow slows the other side: a
pod that reads slowly pauses the client's socket, a client that reads slowly pauses the pod's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, cast

import httptools

from controller.base.clock import Clock
from onebox.knative.activator.heads import (
    HEAD_BYTES_MAX,
    BadRequest,
    Header,
    RequestHead,
    RequestLine,
    ResponseHead,
    parse_request_head,
    render_response,
    text_response,
)
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.pods import PodConnection

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Server(Protocol):
    """Who decides about requests."""

    limits: Limits
    clock: Clock
    draining: bool

    def receive(self, exchange: Exchange) -> None:
        """A request's head is there. Must not block, must not raise."""
        ...

    def connected(self, connection: ClientConnection) -> None: ...

    def disconnected(self, connection: ClientConnection) -> None: ...


class Exchange:
    """One request and its answer; the answer comes through the methods of pods.Client."""

    def __init__(self, connection: ClientConnection, head: RequestHead, *, keep_alive: bool) -> None:
        self.head = head
        self.task: asyncio.Task[None] | None = None
        """Whoever works on it; cancelled when the client goes away."""
        self.complete = False
        """Whether the whole request was read."""
        self.started = False
        self.status = 0
        """Of the answer; 0 until it begins."""
        self.started_s: float | None = None
        """When the answer began."""
        self.finished = False
        self.last_written_s: float | None = None
        self._connection = connection
        self._keep_alive = keep_alive
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._pod: PodConnection | None = None
        self._rechunked = False

    @property
    def held_bytes(self) -> int:
        """What it may take of the memory while it waits: its head is small, and of its body this much is read."""
        limit = self._connection.server.limits.body_held_bytes
        return limit if self.head.chunked else min(self.head.content_length, limit)

    def attach(self, pod: PodConnection) -> None:
        """Lets the pod have the body, what is there and what comes."""
        self._pod = pod
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            pod.send_body(b"".join(held))
        if self.complete:
            pod.end_body()
        self._connection.set_reading(True)

    def detach(self) -> None:
        self._pod = None

    # The request's body, from the connection.

    def feed(self, chunk: bytes) -> None:
        if self._pod is not None:
            self._pod.send_body(chunk)
        elif not self.finished:
            self._held.append(chunk)
            self._held_bytes += len(chunk)
            if self._held_bytes >= self._connection.server.limits.body_held_bytes:
                self._connection.set_reading(False)

    def end(self) -> None:
        self.complete = True
        if self._pod is not None:
            self._pod.end_body()

    # The answer.

    def reply(self, status: int, text: str = "", headers: tuple[Header, ...] = ()) -> None:
        """An answer of our own, unless one has begun."""
        if self.started:
            return
        body = text.encode()
        self.answer_head(text_response(status, body, headers))
        self.answer_body(body)
        self.finish()

    def answer_head(self, head: ResponseHead) -> None:
        self.started = True
        self.status = head.status
        self._written()
        self.started_s = self.last_written_s
        line = self.head.line
        bounded = head.content_length is not None or not head.has_body(line.method)
        self._rechunked = not bounded and not line.http_1_0
        self._keep_alive &= (bounded or self._rechunked) and self.complete and not self._connection.server.draining
        self._connection.write(
            render_response(head, line.method, rechunked=self._rechunked, connection=self._connection_header(head))
        )

    def answer_body(self, chunk: bytes) -> None:
        if chunk and not self.finished and self.head.line.method != b"HEAD":
            self._written()
            self._connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._rechunked else chunk)

    def answer_switched(self, pod: PodConnection, first: bytes) -> None:
        self._keep_alive = False
        self._connection.tunnel(pod)
        if first:
            self._connection.write(first)

    def finish(self) -> None:
        """The answer is complete."""
        if self.finished:
            return
        self.finished = True
        if self._rechunked:
            self._connection.write(_LAST_CHUNK)
        self._connection.finished(self, keep_alive=self._keep_alive and self.complete)

    def finish_late(self, text: str) -> None:
        """Ends an answer that took too long: with this text, which is all that Knative can still say, or by breaking off
        where the length was promised."""
        if self._rechunked:
            self.answer_body(text.encode())
            self.finish()
        else:
            self.abort()

    def abort(self) -> None:
        """Breaks off: the client must not take a part for the whole."""
        self.finished = True
        self._connection.abort()

    def set_reading(self, reading: bool) -> None:
        self._connection.set_reading(reading)

    def set_writable(self, writable: bool) -> None:
        """Whether the client takes more of the answer now."""
        if self._pod is not None:
            self._pod.set_reading(writable)

    def end_connection(self) -> None:
        """Nothing can follow on the connection."""
        self._keep_alive = False

    def leave(self) -> None:
        """The client is gone."""
        self.finished = True
        if self.task is not None:
            self.task.cancel()

    def _written(self) -> None:
        self.last_written_s = self._connection.server.clock.monotonic_s()

    def _connection_header(self, head: ResponseHead) -> bytes:
        if head.status == 101:
            return b"Upgrade"
        if not self._keep_alive:
            return b"close"
        return b"keep-alive" if self.head.line.http_1_0 else b""


class ClientConnection(asyncio.Protocol):
    """One client's socket. A client that ends its side is gone, as Go's servers see it: whoever stops waiting must free its
    place."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.since_s = server.clock.monotonic_s()
        """When it last became what it is now: idle, reading a head, or lingering."""
        self._transport: asyncio.Transport | None = None
        self._current: Exchange | None = None  # The one that is being answered.
        self._incoming: Exchange | None = None  # The one whose body is being read.
        self._pipelined: deque[Exchange] = deque()
        self._tunnel: PodConnection | None = None
        self._undecided = False  # Another protocol was asked for; what follows (`_unparsed`) may be HTTP or not.
        self._unparsed = b""
        self._in_head = False
        self._lingering = False
        self._paused = False
        self._reset_parser()

    @property
    def idle(self) -> bool:
        return self._current is None and not self._pipelined and not self._in_head and self._tunnel is None

    def sweep(self, now_s: float) -> None:
        """Ends the connection where nothing has come for too long."""
        silent_s = now_s - self.since_s
        limits = self.server.limits
        if self._lingering:
            if silent_s > limits.linger_s:
                self.abort()
        elif self._in_head and self._current is None:
            if silent_s > limits.header_s:
                self._refuse(BadRequest(408, "request timeout"))
        elif self.idle and (self.server.draining or silent_s > limits.keep_alive_s):
            self.close()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def finished(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """The current exchange is over; the next one begins, or the connection ends."""
        assert exchange is self._current
        self._current = None
        self.since_s = self.server.clock.monotonic_s()
        if not keep_alive:
            self._end(linger=not exchange.complete)
        elif self._undecided:
            self._continue_unparsed()
        else:
            self._advance()

    def tunnel(self, pod: PodConnection) -> None:
        """Carries bytes both ways from here on."""
        self._tunnel = pod
        self._undecided = False
        unparsed, self._unparsed = self._unparsed, b""
        if unparsed:
            pod.write(unparsed)
        self.set_reading(True)

    def set_reading(self, reading: bool) -> None:
        if self._transport is None or self._transport.is_closing() or self._paused == (not reading):
            return
        if reading and (self._pipelined or self._undecided):
            return  # Enough is waiting here already, or nobody could read it yet.
        self._paused = not reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance.
        self.server.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature.
        self._transport = None
        self.server.disconnected(self)
        self._pipelined.clear()
        if self._current is not None:
            self._current.leave()
        if self._tunnel is not None:
            self._tunnel.close()

    def pause_writing(self) -> None:
        if self._current is not None:
            self._current.set_writable(False)

    def resume_writing(self) -> None:
        if self._current is not None:
            self._current.set_writable(True)

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.write(data)
            return
        if self._lingering:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            self.set_reading(False)
            self._undecided, self._unparsed = True, data[switch.args[0] :]
            if self._current is None:
                self._continue_unparsed()
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, BadRequest):
                raise
            self._refuse(error.__context__)
        except httptools.HttpParserError as error:
            self._refuse(BadRequest(400, f"bad request: {error}"))

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._reset_head()
        self._in_head = True
        if self._current is None:
            self.since_s = self.server.clock.monotonic_s()

    def on_url(self, target: bytes) -> None:
        self._target += target
        self._count(len(target))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._in_head = False
        line = RequestLine(parser.get_method(), self._target, parser.get_http_version() == "1.0")
        head = parse_request_head(line, self._headers)
        exchange = Exchange(self, head, keep_alive=parser.should_keep_alive())
        self._incoming = exchange
        exchange.complete = not head.has_body
        if self._current is None and not self._pipelined:
            self._begin(exchange)
        else:
            self._pipelined.append(exchange)
            self._pause_for_pipelined()

    def on_body(self, chunk: bytes) -> None:
        if self._incoming is not None:
            self._incoming.feed(chunk)

    def on_message_complete(self) -> None:
        if self._incoming is not None and not self._incoming.complete:
            self._incoming.end()
        self._incoming = None

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        if exchange.head.expects_continue:
            self.write(_CONTINUE)
        self.server.receive(exchange)

    def _advance(self) -> None:
        # A loop, since an exchange may be over before `_begin` returns.
        while self._pipelined and self._current is None:
            self._begin(self._pipelined.popleft())
        self.set_reading(True)

    def _pause_for_pipelined(self) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _continue_unparsed(self) -> None:
        """Another protocol was asked for and not agreed to: what follows is HTTP after all, for a parser that has not
        stopped."""
        self._undecided = False
        unparsed, self._unparsed = self._unparsed, b""
        self._reset_parser()
        self._advance()
        if unparsed:
            self.data_received(unparsed)

    def _refuse(self, refusal: BadRequest) -> None:
        """Nothing that follows can be read: answers that, after the requests before it."""
        self._in_head = False
        current = self._current
        if current is not None and current.complete:
            current.end_connection()
            self._pipelined.clear()
            self.set_reading(False)
            return
        if current is not None:  # It is this one's body that makes no sense.
            self._current = None
            current.leave()
            if current.started:
                self.abort()
                return
        text = f"{refusal}\n".encode()
        self.write(
            render_response(text_response(refusal.status, text), b"GET", rechunked=False, connection=b"close") + text
        )
        self._end(linger=True)

    def _end(self, *, linger: bool) -> None:
        if self._transport is None:
            return
        if not linger:
            self._transport.close()
            return
        self._lingering = True
        self._pipelined.clear()
        self._incoming = None
        self.set_reading(True)
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _count(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > HEAD_BYTES_MAX:
            raise BadRequest(431, "request header fields too large")

    def _reset_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._reset_head()

    def _reset_head(self) -> None:
        self._target = b""
        self._headers: list[Header] = []
        self._head_bytes = 0
