"""One client's connection: bytes in, exchanges in order, bytes out.

Requests on one connection are answered one after the other; what a client pipelines waits, unread beyond one read of the
socket. A client that closes its side is gone, as Go's servers see it: whoever stops waiting must free its slot.

What is refused here and not left to the parser is what proxies are known to disagree about: several Host or none, a
Transfer-Encoding other than exactly "chunked", one in HTTP/1.0, and upgrades, which are ignored rather than obeyed. A
proxy's server (`upgrades`) hands an upgrade over instead: all that follows its headers is the request's stream, and after a
101 the answer's stream goes out as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from ladle.server.http.body import BodyStream
from ladle.server.http.messages import Header, Request, Response, has_body, render_head, text

if TYPE_CHECKING:
    from ladle.server.http.server import HttpServer

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_METHODS = {name.encode(): name for name in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")}
_LAST_CHUNK = b"0\r\n\r\n"
_SWITCHING = 101


class Refusal(Exception):
    """The rest of this request is not wanted: not an error of ours, but what the client gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = text(status, message)


class ConnectionExchange:
    """One request on a connection; implements application.Exchange."""

    __slots__ = ("answered", "complete", "connection", "request", "visit")

    def __init__(self, connection: Connection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.visit: object | None = None
        self.complete = False
        """Whether the whole request has been read, or has no body to read."""
        self.answered = False

    def respond(self, response: Response) -> None:
        if not self.answered:
            self.answered = True
            self.connection.send(self, response)
        elif response.stream is not None:
            self.connection.server.tasks.create_task(response.stream.aclose())


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._limits = server.limits
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: ConnectionExchange | None = None
        """The one that is being answered."""
        self._waiting: deque[ConnectionExchange] = deque()
        """Pipelined ones behind it."""
        self._stream_task: asyncio.Task[None] | None = None
        self._stream_began = False
        self._advancing = False
        self._read_paused = False
        self._write_paused: asyncio.Future[None] | None = None
        self._lingering = False
        self._ending = False
        """Whether the last request that was read asked for the connection's end."""
        self.closing = False
        """Whether no further request is taken from this connection."""
        self._read_s = server.clock.monotonic_s()
        """When the socket was read last: the moment of all that the parser finds in those bytes."""
        self._since_s = self._read_s
        """When the present state began: idle, in headers, in a body (its last piece), lingering."""
        self._count_head = False
        """Whether a head may be too long although it came in one piece."""
        self._raw: BodyStream | None = None
        """Where everything goes that comes after an upgrade."""
        self._reset()

    def _reset(self) -> None:
        self._incoming: ConnectionExchange | None = None
        self._target = b""
        self._raw_headers: list[Header] = []
        self._head_bytes = 0
        self._in_head = False
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._body_began_s = 0.0
        self._wants_continue = False
        self._upgrade = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is none by inheritance.
        if self.server.streams_bodies:
            name = self._transport.get_extra_info("peername")
            self._peer = name[0] if isinstance(name, tuple) else ""
        if not self.server.connected(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # The name that asyncio calls it by.
        self._transport = None
        self.closing = True
        self._abandon_all()
        if self._write_paused is not None:
            self._write_paused.set_result(None)
            self._write_paused = None
        self.server.disconnected(self)

    def eof_received(self) -> bool:
        return False  # Closes: see the module's first lines.

    def pause_writing(self) -> None:
        self._write_paused = self.server.loop.create_future()
        self._since_s = self.server.clock.monotonic_s()
        self._update_reading()

    def resume_writing(self) -> None:
        if self._write_paused is not None:
            self._write_paused.set_result(None)
            self._write_paused = None
        self._update_reading()

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed(data)
            return
        if self.closing or self._ending:
            return  # Lingering, or what follows a request that asked for the end.
        if self._in_head:
            self._head_bytes += len(data)
        self._count_head = len(data) > self._limits.header_bytes_max
        self._read_s = self.server.clock.monotonic_s()
        try:
            self._feed(data)
        except Refusal as refusal:
            self._refuse(refusal.response)
        except httptools.HttpParserError as error:
            if not self._ending:  # What follows a request that asked for the end is an error to this parser.
                self._refuse(_parse_refusal(error))

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self.server.upgrades and self._incoming is not None and _can_upgrade(self._incoming.request):
                self._hand_over(self._incoming, rest)
            else:
                self._feed_without_upgrade(rest)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refusal):
                raise error.__context__ from None
            raise
        if self._in_head and self._head_bytes > self._limits.header_bytes_max:
            raise Refusal(431, "request header fields too large")

    def _hand_over(self, exchange: ConnectionExchange, rest: bytes) -> None:
        """The rest of this connection belongs to an upgrade, whether or not the application agrees to it."""
        self._incoming = None
        self._raw = exchange.request.stream = BodyStream(self._pause_for_body, self._resume_for_body)
        exchange.request.upgrade = True
        exchange.request.peer = self._peer
        exchange.request.keep_alive = False
        exchange.complete = True
        if rest:
            self._raw.feed(rest)
        self._enqueue(exchange)

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """A server may ignore an upgrade (RFC 9110 7.8), but the parser then leaves the body unread: it reads the head
        again without the wish."""
        exchange = self._incoming
        if exchange is None or exchange.request.method == "CONNECT":
            raise Refusal(405, "method not allowed")
        kept = [header for header in map(_without_upgrade, exchange.request.raw_headers) if header is not None]
        head = b"%b %b HTTP/1.1\r\n" % (exchange.request.method.encode(), exchange.request.target)
        head += b"".join(b"%b: %b\r\n" % header for header in kept)
        self._parser = httptools.HttpRequestParser(self)
        self._feed(head + b"\r\n" + rest)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.closing:
            return
        self._reset()
        self._in_head = True
        self._since_s = self._read_s

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._limits.target_bytes_max:
            raise Refusal(414, "request target too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._raw_headers.append((name.lower(), value.rstrip(b" \t")))
            if len(self._raw_headers) > self._limits.headers_max:
                raise Refusal(431, "too many request headers")
            return
        # A trailer: nobody asked for one, and a stream of them must end somewhere.
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self._limits.header_bytes_max:
            raise Refusal(431, "request trailers too large")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self.closing:
            return
        parser = self._parser
        method = parser.get_method()
        request = Request(_METHODS.get(method) or method.decode("ascii"), self._target, self._raw_headers)
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        self._upgrade = parser.should_upgrade()
        request.arrived_s = self._body_began_s = self._read_s
        self._check_head(request)
        exchange = self._incoming = ConnectionExchange(self, request)
        if self._upgrade:
            return
        self._wants_continue = request.headers.get(b"expect", b"").lower() == b"100-continue"
        if self.server.streams_bodies:
            request.stream = BodyStream(self._pause_for_body, self._resume_for_body)
            exchange.complete = not _announces_body(request)
            request.peer = self._peer
        self._enqueue(exchange)

    def on_body(self, body: bytes) -> None:
        if self._incoming is None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes_max:
            raise Refusal(413, f"request body too large: at most {self._limits.body_bytes_max} bytes")
        self._since_s = self._read_s
        stream = self._incoming.request.stream
        if stream is not None:
            stream.feed(body)
        else:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        exchange = self._incoming
        if self._upgrade or exchange is None:
            return
        self._incoming = None
        exchange.complete = True
        request = exchange.request
        if request.stream is not None:
            request.stream.end()
        elif self._chunks:
            request.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks = []
        self._ending = not request.keep_alive
        if exchange is self._exchange and request.stream is None:
            self.server.application.handle(exchange)

    # The order of exchanges.

    def _check_head(self, request: Request) -> None:
        headers = request.headers
        if self._count_head and sum(map(_header_bytes, request.raw_headers)) > self._limits.header_bytes_max:
            raise Refusal(431, "request header fields too large")
        if len(headers) != len(request.raw_headers):
            names = [name for name, _ in request.raw_headers]
            if names.count(b"host") > 1 or names.count(b"transfer-encoding") > 1:
                raise Refusal(400, "bad request: repeated Host or Transfer-Encoding")
        if request.version != "1.1":
            if request.version != "1.0":  # A request line without a version is HTTP/0.9 to the parser.
                raise Refusal(505, "HTTP version not supported")
        elif b"host" not in headers:
            raise Refusal(400, "bad request: missing required Host header")
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or request.version == "1.0"):
            raise Refusal(501, "unsupported transfer encoding")
        length = headers.get(b"content-length")
        if length is not None and int(length) > self._limits.body_bytes_max:
            raise Refusal(413, f"request body too large: at most {self._limits.body_bytes_max} bytes")

    def _enqueue(self, exchange: ConnectionExchange) -> None:
        if self._exchange is None and not self._waiting:
            self._begin(exchange)
        else:
            self._waiting.append(exchange)
            self._update_reading()

    def _begin(self, exchange: ConnectionExchange) -> None:
        """Makes this the exchange that is being answered; hands it over as far as it has arrived."""
        self._exchange = exchange
        application = self.server.application
        application.begin(exchange)
        if exchange.answered:
            return
        if self._wants_continue and exchange is self._incoming and self._transport is not None:
            self._transport.write(_CONTINUE)
        if exchange.complete or exchange.request.stream is not None:
            application.handle(exchange)

    def _advance(self) -> None:
        """Begins what waits. A loop: thousands of pipelined requests answered at once must not be as many frames."""
        if self._advancing:
            return
        self._advancing = True
        while self._waiting and self._exchange is None and self._transport is not None:
            self._begin(self._waiting.popleft())
        self._advancing = False
        self._update_reading()

    def send(self, exchange: ConnectionExchange, response: Response) -> None:
        """Writes the answer of the current exchange, or starts to."""
        transport = self._transport
        if transport is None or exchange is not self._exchange:
            if response.stream is not None:
                self.server.tasks.create_task(response.stream.aclose())
            return
        keep_alive = self._outlives(exchange, response)
        if response.stream is not None:
            self._stream_began = False
            self._stream_task = self.server.tasks.create_task(self._send_stream(exchange, response, keep_alive))
            return
        self._write_whole(transport, exchange.request, response, keep_alive=keep_alive)
        self._finish(keep_alive)

    def _outlives(self, exchange: ConnectionExchange, response: Response) -> bool:
        """Whether another request may follow on this connection. One whose body is still coming cannot be followed."""
        if not exchange.complete or not exchange.request.keep_alive or response.close or self.server.draining:
            return False
        return bool(self._waiting) or not self.closing

    def _write_whole(
        self, transport: asyncio.Transport, request: Request, response: Response, *, keep_alive: bool
    ) -> None:
        body = response.body
        length = sum(map(len, body)) if isinstance(body, tuple) else len(body)
        head = render_head(
            response, length, keep_alive=keep_alive, version=request.version, date=self.server.date_header
        )
        if not has_body(response.status, request.method):
            transport.write(head)
        elif isinstance(body, tuple):
            transport.writelines([head, *body])
        elif length > _COPY_BYTES_MAX:
            transport.writelines([head, body])
        else:
            transport.write(head + body)

    async def _send_stream(self, exchange: ConnectionExchange, response: Response, keep_alive: bool) -> None:
        stream, request = response.stream, exchange.request
        assert stream is not None
        switched = request.upgrade and response.status == _SWITCHING
        chunked = response.length is None and request.version != "1.0" and not switched
        keep_alive = keep_alive and (chunked or response.length is not None)
        try:
            self._stream_began = True
            if self._transport is None:
                return
            self._write(
                render_head(
                    response,
                    response.length,
                    keep_alive=keep_alive,
                    version=request.version,
                    date=self.server.date_header,
                )
            )
            if switched or has_body(response.status, request.method):
                async for piece in stream:
                    if piece:
                        self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                    if self._write_paused is not None:
                        await asyncio.shield(self._write_paused)
                    if self._transport is None:
                        return
                if chunked:
                    self._write(_LAST_CHUNK)
        except Exception as error:  # noqa: BLE001  # The top of a stream: the status is sent, so only a broken end can tell.
            self.server.log_broken_stream(request, error)
            if self._transport is not None:
                self._transport.abort()
            return
        finally:
            self._stream_task = None
            await stream.aclose()
        self._finish(keep_alive)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _finish(self, keep_alive: bool) -> None:
        exchange = self._exchange
        self._exchange = None
        self._since_s = self.server.clock.monotonic_s()
        if keep_alive:
            if self._waiting or self._read_paused:
                self._advance()
            return
        self.closing = True
        self._waiting.clear()  # They were never begun: nobody counts them.
        if exchange is not None and not exchange.complete:
            self._linger()
        elif self._transport is not None:
            self._transport.close()

    # Refusing and ending.

    def _refuse(self, response: Response) -> None:
        """The parser is lost, or the rest is not wanted: answers if nothing else is being answered, then ends."""
        self.closing = True
        incoming, transport = self._incoming, self._transport
        if incoming is not None and incoming.request.stream is not None:
            incoming.request.stream.fail(ConnectionResetError("the client broke its request off"))
        if transport is None:
            return
        busy = self._exchange is not None and (self._exchange.complete or self._stream_task is not None)
        if busy or self._waiting:
            return  # The earlier requests are good; the connection ends after the last of them.
        if self._exchange is not None:
            self._exchange.answered = True
            self.server.application.abandon(self._exchange)
            self._exchange = None
        transport.write(
            render_head(response, len(response.body), keep_alive=False, version="1.1", date=self.server.date_header)
        )
        transport.write(bytes(response.body) if not isinstance(response.body, tuple) else b"")
        self._linger()

    def _linger(self) -> None:
        """Ends our side and reads on for a moment: closing with unread data would reset what we just sent."""
        self.closing = self._lingering = True
        self._waiting.clear()
        self._since_s = self.server.clock.monotonic_s()
        if self._transport is not None:
            self._resume_for_body()
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def _abandon_all(self) -> None:
        exchange, self._exchange = self._exchange, None
        incoming = self._incoming
        if self._raw is not None:
            self._raw.fail(ConnectionResetError("the client went away"))
        if incoming is not None and incoming.request.stream is not None:
            incoming.request.stream.fail(ConnectionResetError("the client went away"))
        if self._stream_task is not None and self._stream_began:
            # One that has not begun must: a task cancelled before its first step would never close the stream.
            self._stream_task.cancel()
        if exchange is not None and not exchange.answered:
            exchange.answered = True
            self.server.application.abandon(exchange)
        self._waiting.clear()

    @property
    def idle(self) -> bool:
        """Between two requests."""
        return self._exchange is None and not self._waiting and not self._in_head and self._incoming is None

    def close_if_idle(self) -> None:
        if self.idle and self._transport is not None:
            self.closing = True
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self.closing = True
            self._transport.abort()

    def sweep(self, now_s: float) -> None:
        """Ends this connection where its client is too slow; called about once a second."""
        if self._transport is None:
            return
        limits, silence_s = self._limits, now_s - self._since_s
        if self._lingering:
            if silence_s > limits.linger_s:
                self._transport.abort()
        elif self._write_paused is not None:
            if silence_s > limits.write_stall_s:
                self._transport.abort()
        elif self._in_head:
            if silence_s > limits.header_timeout_s:
                self._refuse(text(408, "request timeout"))
        elif self._incoming is not None and not self._read_paused:
            if self._too_slow(now_s):
                self._refuse(text(408, "request timeout"))
        elif self.idle and silence_s > limits.keep_alive_s:
            self._transport.close()

    def _too_slow(self, now_s: float) -> bool:
        taken_s, silence_s = now_s - self._body_began_s, now_s - self._since_s
        return self._limits.too_slow(self._body_bytes, taken_s=taken_s, silence_s=silence_s)

    # Back-pressure.

    def _update_reading(self) -> None:
        """Reads unless pipelined requests or unsent answers pile up."""
        self._set_paused(bool(self._waiting) or self._write_paused is not None)

    def _pause_for_body(self) -> None:
        self._set_paused(True)

    def _resume_for_body(self) -> None:
        if self._read_paused:
            self._set_paused(bool(self._waiting) and not self._lingering)

    def _set_paused(self, paused: bool) -> None:
        if self._transport is None or paused == self._read_paused:
            return
        self._read_paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._since_s = self.server.clock.monotonic_s()
            self._transport.resume_reading()


_COPY_BYTES_MAX = 16 * 1024
"""Up to here one copy of the body is cheaper than a second buffer for writev. Measured: equal at about 16 kB."""


def _announces_body(request: Request) -> bool:
    return b"transfer-encoding" in request.headers or request.headers.get(b"content-length", b"0") != b"0"


def _can_upgrade(request: Request) -> bool:
    """Whether this is an upgrade as WebSockets and their like ask for it: nothing else than a head. h2c by upgrade, which
    some clients ask for in passing, is ignored as everybody may."""
    wanted = request.headers.get(b"upgrade", b"h2c").lower()
    return request.method == "GET" and wanted != b"h2c" and not _announces_body(request)


def _without_upgrade(header: Header) -> Header | None:
    """The header without the wish for another protocol; None where it says nothing else."""
    name, value = header
    if name == b"upgrade":
        return None
    if name != b"connection":
        return header
    options = [option.strip() for option in value.split(b",")]
    others = b", ".join(option for option in options if option.lower() != b"upgrade")
    return (name, others) if others else None


def _header_bytes(header: Header) -> int:
    return len(header[0]) + len(header[1])


def _parse_refusal(error: Exception) -> Response:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return text(501, "method not implemented")
    return text(400, f"bad request: {error}")
