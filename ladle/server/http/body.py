"""A request's body while it is still coming: a bounded stream between the socket and whoever reads it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

BUFFERED_BYTES_MAX = 256 * 1024
"""What may wait unread before the socket is paused; one read of uvloop. A guess that bounds memory per connection."""


class BodyTap(Protocol):
    """Sees a body while somebody else reads it."""

    def add(self, piece: bytes) -> None: ...

    def end(self) -> None:
        """All of it was read."""


class BodyStream:
    """An async iterator of chunks. It ends with the body, or with ConnectionResetError where the client went away."""

    __slots__ = ("_buffered_bytes", "_chunks", "_ended", "_failure", "_pause", "_resume", "_waiter", "tap")

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._chunks: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._ended = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pause = pause
        self._resume = resume
        self.tap: BodyTap | None = None

    @property
    def complete(self) -> bool:
        """Whether all of it has arrived, read or not."""
        return self._ended

    def feed(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._buffered_bytes += len(chunk)
        if self._buffered_bytes > BUFFERED_BYTES_MAX:
            self._pause()
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        self._failure = error
        self._wake()

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                if self.tap is not None:
                    self.tap.end()
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._chunks.popleft()
        self._buffered_bytes -= len(chunk)
        if self._buffered_bytes <= BUFFERED_BYTES_MAX:
            self._resume()
        if self.tap is not None:
            self.tap.add(chunk)
        return chunk

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
