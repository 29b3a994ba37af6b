"""A connection carried to another server as it is, byte by byte: for who has heard the first of them and is not meant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, cast

Connect: TypeAlias = Callable[[Callable[[], asyncio.Protocol]], Coroutine[Any, Any, object]]
"""Connects a protocol, as loop.create_connection does; OSError where that cannot be."""
CONNECT_S = 5.0
"""Longest connecting to a server of this machine. A guess: it takes 0.1 ms, unless that server is stopped."""


class _Side(asyncio.Protocol):
    """One of the two connections. Whoever reads slowly slows the other side; whoever ends ends both."""

    _other: _Side

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # The name that asyncio calls it by.
        self._transport = None
        self._other.close()

    def pause_writing(self) -> None:
        self._other.set_reading(reading=False)

    def resume_writing(self) -> None:
        self._other.set_reading(reading=True)

    def write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def set_reading(self, *, reading: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _FarSide(_Side):
    """The connection to the other server."""

    def __init__(self, near: Splice) -> None:
        super().__init__()
        self._other = near


class Splice(_Side):
    """The client's side, which connects the other one."""

    def __init__(self, connect: Connect, tasks: asyncio.TaskGroup) -> None:
        super().__init__()
        self._other = _FarSide(self)
        self._connect_to = connect
        self._tasks = tasks
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.set_reading(reading=False)  # Until there is somebody to give it to.
        self._tasks.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connect_to(lambda: self._other)
        except OSError:  # Or its TimeoutError.
            self.close()
            return
        self._other.write(self._begun)
        self._begun = b""
        if self.connected:
            self.set_reading(reading=True)
        else:
            self._other.close()

    def data_received(self, data: bytes) -> None:
        if self._other.connected:
            super().data_received(data)
        else:
            self._begun += data
