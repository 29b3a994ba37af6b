"""A connection carried to another server as it is, byte by byte: for who has heard the first of them and is not meant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, cast

Connect: TypeAlias = Callable[[Callable[[], asyncio.Protocol]], Coroutine[Any, Any, object]]
"""Connects a protocol, as loop.create_connection does; OSError where that cannot be."""
CONNECT_S = 5.0
"""Longest connecting to a server of this machine. A guess: it takes 0.1 ms, unless that server is stopped."""


class Splice(asyncio.Protocol):
    """The client's side. Whoever reads slowly slows the other side; whoever ends ends both."""

    def __init__(self, connect: Connect, tasks: asyncio.TaskGroup) -> None:
        self._connect_to = connect
        self._tasks = tasks
        self._transport: asyncio.Transport | None = None
        self._far = _FarSide(self)
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()  # Until there is somebody to give it to.
        self._tasks.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connect_to(lambda: self._far)
        except OSError:  # Or its TimeoutError.
            self.close()
            return
        self._far.write(self._begun)
        self._begun = b""
        if self._transport is None:
            self._far.close()
        else:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._far.connected:
            self._far.write(data)
        else:
            self._begun += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # The name that asyncio calls it by.
        self._transport = None
        self._far.close()

    def pause_writing(self) -> None:
        self._far.set_reading(reading=False)

    def resume_writing(self) -> None:
        self._far.set_reading(reading=True)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def set_reading(self, *, reading: bool) -> None:
        _set_reading(self._transport, reading=reading)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _FarSide(asyncio.Protocol):
    """The connection to the other server."""

    def __init__(self, near: Splice) -> None:
        self._near = near
        self._transport: asyncio.Transport | None = None

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._near.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # As above.
        self._transport = None
        self._near.close()

    def pause_writing(self) -> None:
        self._near.set_reading(reading=False)

    def resume_writing(self) -> None:
        self._near.set_reading(reading=True)

    def write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def set_reading(self, *, reading: bool) -> None:
        _set_reading(self._transport, reading=reading)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _set_reading(transport: asyncio.Transport | None, *, reading: bool) -> None:
    if transport is None or transport.is_closing():
        return
    if reading:
        transport.resume_reading()
    else:
        transport.pause_reading()
