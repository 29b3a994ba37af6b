"""Unix sockets by paths of any length: a server that takes the place of an earlier one, and connections with a deadline."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

LINE_BYTES_MAX: Final = 64 * 1024
"""Longest line that a reader takes; asyncio's default."""
_SUN_PATH_MAX: Final = 100
"""Longest path that is bound as it is; Linux' sockaddr_un has 108 bytes, macOS' 104."""
_CONNECT_S: Final = 2.0
"""Longest time to connect to a socket of this machine; a guess."""

OnConnection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the socket; OSError where nobody listens."""
    with _short(path) as short:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_unix_connection(short)
    try:
        yield reader, writer
    finally:
        writer.close()


async def start_server(path: Path, on_connection: OnConnection) -> asyncio.Server:
    """Listens on the socket, for this user alone, in place of whoever listened there before."""
    _make_way(path)
    with _short(path) as short:
        server = await asyncio.start_unix_server(on_connection, short, limit=LINE_BYTES_MAX)
    _restrict(path)
    return server


def _make_way(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _restrict(path: Path) -> None:
    path.chmod(0o600)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    # A home may lie deeper than an address of a unix socket can say; its open directory has a short name in /proc.
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
