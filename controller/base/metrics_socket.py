"""A process's metrics on a unix socket: whoever connects is sent the page, and the connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from controller.base.exposition import Collect, render_page
from controller.base.unix_socket import connected, start_server

PAGE_BYTES_MAX = 16 * 2**20
"""Largest page that is read; 10,000 revisions have about half of it. A guess."""
_WRITE_S = 5.0
"""A reader that takes longer for a page is left. A guess: it takes milliseconds."""


class PageTooLarge(ValueError):
    """What came is more than a page can be."""


@asynccontextmanager
async def metrics_on(path: Path, collect: Iterable[Collect]) -> AsyncIterator[None]:
    """Serves the page of these collectors while the block runs, in place of whoever served there before."""
    collectors = tuple(collect)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_WRITE_S):
                writer.write(render_page(family for each in collectors for family in each()).encode())
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # A reader that went away has its own reasons.
        finally:
            writer.close()

    server = await start_server(path, answer)
    try:
        yield
    finally:
        server.close()


async def read_page(path: Path) -> str:
    """The page of the process behind this socket; OSError where nobody listens. The caller limits the time."""
    async with connected(path) as (reader, _):
        content = bytearray()
        while chunk := await reader.read(2**16):
            content += chunk
            if len(content) > PAGE_BYTES_MAX:
                raise PageTooLarge(f"{path} sends more than {PAGE_BYTES_MAX} bytes")
        return content.decode()
