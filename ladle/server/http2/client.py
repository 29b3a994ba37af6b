"""The container's side: streams on as few connections as its own limit allows.

A connection that the server ends with a GOAWAY finishes what it has begun; new streams go to another one.
"""

from __future__ import annotations

import asyncio

import h2.errors
import h2.events
import h2.exceptions

from ladle.server.http.body import BodyStream
from ladle.server.http.messages import Header
from ladle.server.http2.connection import STREAMS_MAX, Http2Body, Http2Protocol, StreamReset

_SETTINGS_S = 5.0
"""Longest wait for a new connection's settings: a server that is slower speaks something else."""


_STREAM_ID_LAST = 2**31 - 1
"""A connection ends with its last number (RFC 9113 5.1.1)."""


class NotHttp2Error(ConnectionAbortedError):
    """Something listens there, but it does not speak HTTP/2."""


class ClientStream:
    """One request to the server and its answer."""

    def __init__(self, connection: Http2ClientConnection, stream_id: int) -> None:
        self.id = stream_id
        self.connection = connection
        self.head: asyncio.Future[list[Header]] = asyncio.get_running_loop().create_future()
        self.body = Http2Body(lambda size: connection.read(stream_id, size))
        self.trailers: list[Header] | None = None
        self.sender: asyncio.Task[None] | None = None
        self.ended = False
        """Whether the server has said all."""
        self.sent_all = False

    def fail(self, error: Exception) -> None:
        """The stream is over."""
        self.ended = True
        self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Whoever waits for the answer, or reads it, gets this error; `close` then ends the stream."""
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # Read here: nobody may be left to do it.
        self.body.fail(error)

    async def send(self, body: BodyStream) -> None:
        """Sends the request's body; where it breaks off, so does the stream."""
        try:
            async for piece in body:
                await self.connection.send_data(self.id, piece)
        except OSError:
            self.connection.reset(self.id, h2.errors.ErrorCodes.CANCEL)
        else:
            self.sent_all = True
            self.connection.end_stream(self.id)

    def close(self) -> None:
        """Nobody wants the rest."""
        if self.sender is not None:
            self.sender.cancel()
        self.connection.forget(self)


class Http2ClientConnection(Http2Protocol):
    """One connection to the server."""

    def __init__(self, pool: Http2Pool) -> None:
        super().__init__(client=True)
        self._pool = pool
        self._streams: dict[int, ClientStream] = {}
        self.idle_since_s = self._loop.time()
        """When its last stream ended."""
        self.settled: asyncio.Future[None] = self._loop.create_future()
        """Done when the server has sent its settings, and its limit of streams is known."""

    @property
    def has_room(self) -> bool:
        limit = min(self.h2.remote_settings.max_concurrent_streams, STREAMS_MAX)
        numbers_left = self.h2.highest_outbound_stream_id < _STREAM_ID_LAST
        return self.open and self.goaway_at is None and numbers_left and len(self._streams) < limit

    @property
    def idle(self) -> bool:
        return not self._streams

    def begin(self, headers: list[Header], *, end_stream: bool) -> ClientStream:
        """A new stream with these headers; only where there is room."""
        stream_id = self.h2.get_next_available_stream_id()
        stream = self._streams[stream_id] = ClientStream(self, stream_id)
        stream.sent_all = end_stream
        self.h2.send_headers(stream_id, headers, end_stream=end_stream)
        self.flush()
        return stream

    def forget(self, stream: ClientStream) -> None:
        if self._streams.pop(stream.id, None) is None:
            return
        if not (stream.ended and stream.sent_all):
            self.reset(stream.id, h2.errors.ErrorCodes.CANCEL)
        self.read(stream.id, stream.body.unread)
        if self._streams:
            return
        self.idle_since_s = self._loop.time()
        if self.goaway_at is not None:
            self.close()

    def lost(self, error: Exception) -> None:
        if not self.settled.done():
            self.settled.set_exception(error)
            self.settled.exception()  # As above.
        for stream in list(self._streams.values()):
            stream.fail(error)
        self._streams.clear()
        self._pool.forget(self)

    def going_away(self, last_stream_id: int) -> None:
        super().going_away(last_stream_id)
        for stream in [stream for stream in self._streams.values() if stream.id > last_stream_id]:
            self.stream_ended(stream.id, StreamReset(h2.errors.ErrorCodes.REFUSED_STREAM))
            stream.fail(StreamReset(h2.errors.ErrorCodes.REFUSED_STREAM))
            del self._streams[stream.id]
        if not self._streams:
            self.close()

    def handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged) and not self.settled.done():
            self.settled.set_result(None)
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        match event:
            case h2.events.DataReceived(stream_id=stream_id, data=data) if stream is None:
                self.read(stream_id, len(data))
            case h2.events.ResponseReceived(headers=headers) if stream is not None:
                stream.ended = event.stream_ended is not None
                if not stream.head.done():
                    stream.head.set_result([(bytes(name), bytes(value)) for name, value in headers])
            case h2.events.DataReceived(data=data) if stream is not None:
                stream.body.feed(data)
            case h2.events.TrailersReceived(headers=headers) if stream is not None:
                stream.trailers = [(bytes(name), bytes(value)) for name, value in headers]
            case h2.events.StreamEnded() if stream is not None:
                stream.ended = True
                stream.body.end()
            case h2.events.StreamReset(stream_id=stream_id, error_code=code) if stream is not None:
                self.stream_ended(stream_id, StreamReset(code))
                # A server may end a request early and without fault, after it has said all (RFC 9113 8.1).
                if not (stream.ended and code == h2.errors.ErrorCodes.NO_ERROR):
                    stream.fail(StreamReset(code))


class Http2Pool:
    """Connections to one address."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._connections: list[Http2ClientConnection] = []
        self._connecting: asyncio.Lock = asyncio.Lock()

    async def connection(self, *, connect_s: float | None = None) -> Http2ClientConnection:
        """One with room for a stream; OSError where none can be made, NotHttp2Error where the other side says nothing
        that HTTP/2 begins with. `connect_s` limits the connecting alone.
        """
        async with self._connecting:
            for known in self._connections:
                if known.has_room:
                    return known
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(connect_s):
                _, made = await loop.create_connection(lambda: Http2ClientConnection(self), self._host, self._port)
            self._connections.append(made)
            try:
                async with asyncio.timeout(_SETTINGS_S):
                    await made.settled
            except OSError as error:  # Or its TimeoutError.
                made.abort()
                raise NotHttp2Error("the server does not speak HTTP/2") from error
            return made

    def forget(self, connection: Http2ClientConnection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)

    def sweep(self, idle_s: float) -> bool:
        """Closes connections that have been without streams for so long; whether any is left."""
        oldest_s = asyncio.get_running_loop().time() - idle_s
        for connection in [known for known in self._connections if known.idle and known.idle_since_s < oldest_s]:
            connection.close()
            self._connections.remove(connection)
        return bool(self._connections) or self._connecting.locked()

    def close(self) -> None:
        for connection in list(self._connections):
            connection.abort()
