"""What both ends of an HTTP/2 connection have in common: bytes to events and back, and flow control in both directions.

h2 keeps the protocol's state and does no I/O. What a stream has received counts against its window until somebody has read
it, so that a body is never buffered beyond the window; who sends waits for the other side's window and for the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from ladle.server.http.body import BodyStream
from ladle.server.http2.goaway import GoAwayFilter, render_goaway

STREAM_WINDOW_BYTES = 1024 * 1024
"""What one body may hold unread. A guess: 1 ms of a loopback's throughput."""
STREAMS_MAX = 1000
"""Streams of one connection at once; Go's servers allow 250, Envoy asks for fewer. The connection's own window has room for
the windows of all of them: else a few bodies that nobody reads would stop every other one."""
HEADER_LIST_BYTES_MAX = 64 * 1024
"""As over HTTP/1.1."""
_DEFAULT_WINDOW_BYTES = 65_535
"""RFC 9113 6.9.2."""


class StreamReset(ConnectionResetError):
    """The other side ended one stream, with this code of RFC 9113 7."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stream reset: {_code_name(code)}")
        self.code = code


def _code_name(code: int) -> str:
    try:
        return h2.errors.ErrorCodes(code).name
    except ValueError:
        return str(code)


class Http2Body(BodyStream):
    """A body as it comes; what has been read is given back to the sender's window."""

    __slots__ = ("_on_read", "unread")

    def __init__(self, on_read: Callable[[int], None]) -> None:
        super().__init__(_nothing, _nothing)
        self._on_read = on_read
        self.unread = 0

    def feed(self, chunk: bytes) -> None:
        self.unread += len(chunk)
        super().feed(chunk)

    @property
    def spent(self) -> bool:
        """Whether all of it has come and been read."""
        return self.complete and not self.unread

    async def __anext__(self) -> bytes:
        chunk = await super().__anext__()
        self.unread -= len(chunk)
        self._on_read(len(chunk))
        return chunk


def _nothing() -> None:
    """Windows bound what is received; the socket need not be paused."""


class Http2Protocol(asyncio.Protocol):
    """One connection. Its subclasses say what an event means."""

    def __init__(self, *, client: bool, stream_window_bytes: int = STREAM_WINDOW_BYTES) -> None:
        self._stream_window_bytes = stream_window_bytes
        config = h2.config.H2Configuration(client_side=client, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        self._filter = GoAwayFilter(after_preface=not client)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._write_paused: asyncio.Future[None] | None = None
        self._window_waiters: dict[int, asyncio.Future[None]] = {}
        self.goaway_at: int | None = None
        """The last stream that the other side finishes; None while it takes new ones."""

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # What subclasses do about it.

    def handle(self, event: h2.events.Event) -> None:
        """One event of one stream."""
        raise NotImplementedError

    def lost(self, error: Exception) -> None:
        """The connection is over; `error` is for whoever still waits."""
        raise NotImplementedError

    def going_away(self, last_stream_id: int) -> None:
        """The other side finishes what it has seen and takes nothing new."""
        self.goaway_at = last_stream_id

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        codes = h2.settings.SettingCodes
        self.h2.local_settings = h2.settings.Settings(
            client=self.h2.config.client_side,
            initial_values={
                codes.INITIAL_WINDOW_SIZE: self._stream_window_bytes,
                codes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                codes.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES_MAX,
                codes.ENABLE_PUSH: 0,
            },
        )
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(STREAMS_MAX * self._stream_window_bytes - _DEFAULT_WINDOW_BYTES)
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            for part in self._filter.feed(data):
                if isinstance(part, int):
                    self.going_away(part)
                    continue
                for event in self.h2.receive_data(part):
                    self._dispatch(event)
        except h2.exceptions.ProtocolError:
            self.flush()  # h2 has written a GOAWAY that says what was wrong.
            self.close()
            return
        self.flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        error = exc if isinstance(exc, OSError) else ConnectionResetError("EOF")
        for waiter in list(self._window_waiters.values()):
            if not waiter.done():
                waiter.set_exception(error)
        self.lost(error)

    def pause_writing(self) -> None:
        self._write_paused = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._write_paused is not None:
            self._write_paused.set_result(None)
            self._write_paused = None

    def _dispatch(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.WindowUpdated(stream_id=stream_id):
                self._wake(stream_id)
            case h2.events.RemoteSettingsChanged():
                self._wake(0)  # The windows of all streams may have grown.
                self.handle(event)
            case h2.events.DataReceived(data=data, flow_controlled_length=length, stream_id=stream_id):
                self.read(stream_id, length - len(data))  # Padding is read by nobody.
                self.handle(event)
            case _:
                self.handle(event)

    # What both ends use.

    def flush(self) -> None:
        if self._transport is not None and (data := self.h2.data_to_send()):
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def say_goaway(self, last_stream_id: int) -> None:
        """Takes no further streams from the other side; those up to this one go on."""
        if self._transport is not None:
            self._transport.write(render_goaway(last_stream_id))

    def read(self, stream_id: int, size: int) -> None:
        """Somebody has read this much of a stream: the other side may send as much again."""
        if not size or not self.open:
            return
        with contextlib.suppress(h2.exceptions.ProtocolError):  # The connection broke and is about to be closed.
            self.h2.acknowledge_received_data(size, stream_id)
        self.flush()

    async def send_data(self, stream_id: int, data: bytes) -> None:
        """Sends all of `data` as windows and socket allow; ConnectionResetError where the stream or connection ended."""
        rest = memoryview(data)
        while rest:
            size = min(self._window(stream_id), self.h2.max_outbound_frame_size, len(rest))
            if size <= 0:
                await self._window_opened(stream_id)
                continue
            try:
                self.h2.send_data(stream_id, bytes(rest[:size]))
            except h2.exceptions.ProtocolError:
                # Its window stays open to the eye: a server may end a stream before it has heard all (RFC 9113 8.1).
                raise ConnectionResetError("the stream has ended") from None
            self.flush()
            rest = rest[size:]
            if self._write_paused is not None:
                await asyncio.shield(self._write_paused)

    def end_stream(self, stream_id: int, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Our half of the stream is over; harmless where it is already."""
        try:
            if trailers:
                self.h2.send_headers(stream_id, trailers, end_stream=True)
            else:
                self.h2.end_stream(stream_id)
        except h2.exceptions.ProtocolError:
            return  # Reset by the other side meanwhile.
        self.flush()

    def reset(self, stream_id: int, code: int) -> None:
        """Ends both halves of the stream at once; harmless where they have ended. A code may be one that nobody knows."""
        try:
            self.h2.reset_stream(stream_id, code)
        except h2.exceptions.ProtocolError:
            return
        self.flush()

    def _window(self, stream_id: int) -> int:
        if not self.open:
            raise ConnectionResetError("EOF")
        try:
            return self.h2.local_flow_control_window(stream_id)
        except h2.exceptions.ProtocolError:
            raise ConnectionResetError("the stream has ended") from None

    async def _window_opened(self, stream_id: int) -> None:
        waiter = self._window_waiters[stream_id] = self._loop.create_future()
        try:
            await waiter
        finally:
            del self._window_waiters[stream_id]

    def _wake(self, stream_id: int) -> None:
        """Lets those look again who wait for this stream's window; 0 is the connection's, which is everybody's."""
        woken = list(self._window_waiters.values()) if not stream_id else [self._window_waiters.get(stream_id)]
        for waiter in woken:
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def stream_ended(self, stream_id: int, error: Exception) -> None:
        """Nothing more can be sent on this stream."""
        waiter = self._window_waiters.get(stream_id)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
