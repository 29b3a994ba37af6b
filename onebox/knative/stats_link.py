"""What the activator tells the autoscaler, and where: JSON lines over a unix socket in the home.

Each line is about one revision: a report each second while requests wait or run, and at once for the first request of a
revision that was idle, which is what wakes it. Nothing is answered. A lost line does no harm; the next report says more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from onebox.home import Home

LINE_BYTES_MAX: Final = 64 * 1024
"""Longest line; a Kubernetes name and namespace have at most 253 characters each. asyncio's default."""
_SUN_PATH_MAX: Final = 100
"""Longest path that is bound as it is; Linux' sockaddr_un has 108 bytes, macOS' 104."""
_CONNECT_S: Final = 2.0
"""Longest time to connect to a socket of this machine; a guess."""

OnConnection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivatorStat:
    """One line."""

    namespace: str
    name: str
    average_concurrent_requests: float
    request_count: float
    pod: str = "activator"


def encode_stat(stat: ActivatorStat) -> bytes:
    return orjson.dumps(stat) + b"\n"


def decode_stat(line: bytes) -> ActivatorStat:
    """The stat of a line; ValueError where it is none."""
    try:
        fields = orjson.loads(line)
        return ActivatorStat(
            namespace=str(fields["namespace"]),
            name=str(fields["name"]),
            average_concurrent_requests=float(fields["average_concurrent_requests"]),
            request_count=float(fields["request_count"]),
            pod=str(fields.get("pod", "activator")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no stat: {error}") from error


def socket_path(home: Home) -> Path:
    return home.run / "autoscaler.sock"


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
    """Listens on the socket, in place of whoever listened there before."""
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
