"""The sidecar as a process: its end, a container that comes later, and a container that does not read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from http.server import ThreadingHTTPServer

import pytest

from tests.ladle.server.wire import ask, wire
from tests.ports import free_port
from tests.runtimes.foreign import Foreign, foreign_server, idle, sidecar
from tests.waiting import eventually

DEADLINE_S = 60
PROBE = {"user_agent": "kube-probe/1.32", "K_Network_Probe": "queue"}
HELD_BYTES_MAX = 32 * 1024 * 1024
"""Of a request that nobody reads: buffers of four sockets and of the proxy. The kernel lets a socket's grow to 6 MB."""


@pytest.fixture
def foreign() -> Iterator[ThreadingHTTPServer]:
    with foreign_server() as server:
        yield server


@contextlib.asynccontextmanager
async def process(user_port: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The process and its port, once it listens."""
    port = free_port()
    env = os.environ | {
        "LADLE_HOST": "127.0.0.1",
        "LADLE_HTTP_PORT": str(port),
        "LADLE_ADMIN_PORT": str(free_port()),
        "LADLE_DRAIN_QUIET_S": "0.5",
        "USER_PORT": str(user_port),
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtimes.queueproxy", env=env, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await eventually("it listens", lambda: listens(port), timeout_s=DEADLINE_S)
        yield started, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def listens(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


async def refuses(port: int) -> bool:
    return not await listens(port)


async def test_sigterm_fails_probes_and_finishes_what_is_inside(foreign: ThreadingHTTPServer) -> None:
    async with process(foreign.server_port) as (started, port), wire(port) as inside:
        assert (await ask(port, "GET", "/", None, **PROBE)).text == "queue"
        inside.ask("GET", "/slow/60")
        await eventually("it is inside", lambda: seen(1))
        async with wire(port) as probing:
            started.send_signal(signal.SIGTERM)

            async def draining() -> bool:
                return (await probing.request("GET", "/", None, **PROBE)).status == 503

            await eventually("probes fail", draining)
        await eventually("it takes no more connections", lambda: refuses(port))
        Foreign.release.set()
        answer = await inside.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        async with asyncio.timeout(DEADLINE_S):
            assert await started.wait() == 0


async def seen(count: int) -> bool:
    return len(Foreign.saw) == count


async def test_a_container_that_comes_later_is_found_by_the_next_probe(unused_tcp_port: int) -> None:
    async with sidecar(unused_tcp_port) as proxy:
        refused = await ask(proxy.http_port, "GET", "/hello")
        assert (refused.status, "connection refused" in refused.text) == (502, True)
        async with asyncio.TaskGroup() as group:
            probe = group.create_task(ask(proxy.http_port, "GET", "/", None, **PROBE))
            await eventually("it is being probed", lambda: probing(proxy))
            server = await asyncio.start_server(hello, "127.0.0.1", unused_tcp_port)
        assert probe.result().status == 200
        assert (await ask(proxy.http_port, "GET", "/hello")).text == "hello"
        server.close()


async def probing(proxy: object) -> bool:
    return proxy.queue_proxy._probe is not None  # type: ignore[attr-defined]


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
    writer.close()


async def test_an_upload_that_the_container_does_not_read_is_held_back() -> None:
    """Else the proxy's memory would hold it."""
    done = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()
        writer.transport.abort()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    async with sidecar(server.sockets[0].getsockname()[1]) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.http_port)) as client:
            client.setblocking(False)
            client.send(b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n")
            sent, calm = 0, 0

            async def held() -> bool:
                nonlocal sent, calm
                try:
                    sent, calm = sent + client.send(bytes(1024 * 1024)), 0
                except BlockingIOError:
                    calm += 1
                return calm >= 25 or sent > HELD_BYTES_MAX

            await eventually("the client is held back", held)
            assert 0 < sent <= HELD_BYTES_MAX
        done.set()  # A client that is held back and leaves is seen to have left when it is read again, as with Knative.
        await eventually("nobody is inside", lambda: idle(proxy))
    server.close()
