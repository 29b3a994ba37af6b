"""Bytes on sockets, for what no well-behaved client or server would send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.onebox.fake_pod import FakePod
from tests.onebox.knative_world import PodPorts


async def exchange(port: int, sent: bytes) -> bytes:
    """All that the activator answers until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def raw_pod(answer: bytes) -> AsyncIterator[FakePod]:
    """A pod that reads a request's head, says this, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pod = FakePod("raw")
    pod.ports = PodPorts("raw", server.sockets[0].getsockname()[1], 0)
    try:
        yield pod
    finally:
        server.close()
