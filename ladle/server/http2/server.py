"""The clients' side: each stream is an exchange of the same application that answers HTTP/1.1."""

from __future__ import annotations

import asyncio

import h2.errors
import h2.events

from ladle.clock import Clock
from ladle.server.http.application import Application
from ladle.server.http.limits import HttpLimits
from ladle.server.http.messages import Header
from ladle.server.http2.connection import STREAM_WINDOW_BYTES, Http2Body, Http2Protocol, StreamReset
from ladle.server.http2.messages import request_of
from ladle.server.http2.streams import CollectedStream, ServerStream

_EVERY_STREAM = 2**31 - 1
_GOAWAY_S = 1.0
"""How long a client may take to hear that it should begin no more streams. A guess: a thousand times loopback's."""
_PING = b"goaway!!"


class Http2Server:
    """What the connections of one port share."""

    def __init__(
        self,
        application: Application,
        tasks: asyncio.TaskGroup,
        *,
        clock: Clock,
        limits: HttpLimits,
        streams_bodies: bool = True,
        stream_window_bytes: int = STREAM_WINDOW_BYTES,
    ) -> None:
        """`streams_bodies`: as HttpServer has it; `stream_window_bytes`: what one request's body may hold unread."""
        self.application = application
        self.tasks = tasks
        self.clock = clock
        self.limits = limits
        self.streams_bodies = streams_bodies
        self.stream_window_bytes = stream_window_bytes
        self.draining = False
        self.connections: set[Http2Connection] = set()
        self._quiet = asyncio.Event()

    def gone(self, connection: Http2Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._quiet.set()

    async def drain(self, timeout_s: float) -> bool:
        """Takes no new streams, and waits until the others are answered; False where that took longer."""
        self.draining = True
        for connection in list(self.connections):
            connection.finish()
        try:
            async with asyncio.timeout(timeout_s):
                while self.connections:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Ends at once."""
        for connection in list(self.connections):
            connection.abort()


class Http2Connection(Http2Protocol):
    """One client's connection."""

    def __init__(self, server: Http2Server) -> None:
        super().__init__(client=False, stream_window_bytes=server.stream_window_bytes)
        self.server = server
        self._streams: dict[int, ServerStream] = {}
        self._peer = ""
        self._idle_timer: asyncio.TimerHandle | None = None
        self._goaway_timer: asyncio.TimerHandle | None = None
        self._refusing = False
        self._last_stream_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        name = transport.get_extra_info("peername")
        self._peer = name[0] if isinstance(name, tuple) else ""
        self.server.connections.add(self)
        super().connection_made(transport)
        if len(self.server.connections) > self.server.limits.connections_max:
            self.abort()
        elif self.server.draining:
            self.finish()
        self._watch_idle()

    def lost(self, error: Exception) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._goaway_timer is not None:
            self._goaway_timer.cancel()
        for stream in list(self._streams.values()):
            stream.abandon(error)
        self.server.gone(self)

    def finish(self) -> None:
        """Ends the connection once its streams are answered.

        A client may begin a stream before it hears of that. So it is told first, asked for a sign that it has heard, and
        only then refused (RFC 9113 6.8): no request is lost.
        """
        if self._goaway_timer is not None or not self.open:
            return
        self.say_goaway(_EVERY_STREAM)
        self.h2.ping(_PING)
        self.flush()
        self._goaway_timer = self._loop.call_later(_GOAWAY_S, self._refuse_streams)

    def _refuse_streams(self) -> None:
        if self._refusing:
            return
        self._refusing = True
        self.say_goaway(self._last_stream_id)
        if not self._streams:
            self.close()

    def handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=stream_id, headers=headers):
                self._begin(stream_id, headers, ended=event.stream_ended is not None)
            case h2.events.DataReceived(stream_id=stream_id, data=data):
                if (stream := self._streams.get(stream_id)) is not None:
                    stream.feed(data)
                else:
                    self.read(stream_id, len(data))  # Of a stream that has been answered and forgotten.
            case h2.events.StreamEnded(stream_id=stream_id):
                if (stream := self._streams.get(stream_id)) is not None:
                    stream.end()
            case h2.events.StreamReset(stream_id=stream_id, error_code=code):
                self.stream_ended(stream_id, StreamReset(code))
                if (stream := self._streams.get(stream_id)) is not None:
                    stream.abandon(StreamReset(code))
            case h2.events.PingAckReceived() if self._goaway_timer is not None:
                self._refuse_streams()

    def _begin(self, stream_id: int, headers: list[Header], *, ended: bool) -> None:
        if self._refusing:
            self.reset(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)  # Told to go before this one; safe to repeat.
            return
        self._last_stream_id = stream_id
        body = Http2Body(lambda size: self.read(stream_id, size))
        request = request_of(headers, body, peer=self._peer, arrived_s=self.server.clock.monotonic_s())
        if request is None:
            self.reset(stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            return
        self._watch_idle(stop=True)
        made = ServerStream if self.server.streams_bodies else CollectedStream
        stream = self._streams[stream_id] = made(self, stream_id, request, body)
        stream.begin(ended=ended)

    def forget(self, stream: ServerStream) -> None:
        """The stream is answered, or nobody wants its answer."""
        if self._streams.pop(stream.id, None) is None:
            return
        self.read(stream.id, stream.body.unread)  # Or the connection's window would shrink for ever.
        if self._streams:
            return
        if self._refusing or self.goaway_at is not None:
            self.close()
        elif self._goaway_timer is None:
            self._watch_idle()

    def _watch_idle(self, *, stop: bool = False) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not stop:
            self._idle_timer = self._loop.call_later(self.server.limits.keep_alive_s, self.finish)
