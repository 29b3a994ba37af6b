"""WebSockets through the sidecar: they pass both ways, count while they live, and end when either side or the time ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.ladle.server.wire import wire
from tests.runtimes.foreign import busy, idle, sidecar
from tests.waiting import eventually

HEAD = {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_version": "13"}


class Sockets:
    """A WebSocket server that says what it heard."""

    def __init__(self) -> None:
        self.port = 0
        self.open: set[web.WebSocketResponse] = set()
        self.saw: list[dict[str, str]] = []

    async def echo(self, request: web.Request) -> web.StreamResponse:
        self.saw.append({name.lower(): value for name, value in request.headers.items()})
        socket = web.WebSocketResponse(max_msg_size=16 * 1024 * 1024)
        await socket.prepare(request)
        self.open.add(socket)
        try:
            async for message in socket:
                if message.data == "go away":
                    break
                await (socket.send_bytes if isinstance(message.data, bytes) else socket.send_str)(message.data)
        finally:
            self.open.discard(socket)
        return socket

    async def decline(self, request: web.Request) -> web.Response:
        return web.Response(status=403, text="no sockets here")


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    server = Sockets()
    app = web.Application()
    app.router.add_get("/echo", server.echo)
    app.router.add_get("/declined", server.decline)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def test_messages_pass_both_ways_and_the_socket_counts(sockets: Sockets) -> None:
    async with sidecar(sockets.port, container_concurrency=1) as proxy, client() as session:
        url = f"http://127.0.0.1:{proxy.http_port}/echo"
        async with session.ws_connect(url, protocols=("v1",), headers={"x-mine": "1"}) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            assert proxy.queue_proxy.stats.concurrency == proxy.queue_proxy.breaker.running == 1
        await eventually("it left", lambda: idle(proxy))
    assert (sockets.saw[0]["x-mine"], sockets.saw[0]["x-forwarded-for"]) == ("1", "127.0.0.1")


async def test_large_messages_pass_unbuffered_in_both_directions(sockets: Sockets) -> None:
    async with (
        sidecar(sockets.port) as proxy,
        client() as session,
        session.ws_connect(f"http://127.0.0.1:{proxy.http_port}/echo", max_msg_size=0) as socket,
    ):
        for size in (1, 70_000, 3_000_000):
            await socket.send_bytes(bytes(size))
            assert len(await socket.receive_bytes()) == size


async def test_a_container_that_declines_is_heard(sockets: Sockets) -> None:
    async with sidecar(sockets.port) as proxy, wire(proxy.http_port) as connection:
        connection.ask("GET", "/declined", **HEAD)
        answer = await connection.answer()
        assert (answer.status, answer.text) == (403, "no sockets here")
        assert await connection.closed() == b""
        await eventually("it left", lambda: idle(proxy))


async def test_a_client_that_leaves_ends_the_containers_side(sockets: Sockets) -> None:
    async with sidecar(sockets.port) as proxy, wire(proxy.http_port) as connection:
        connection.ask("GET", "/echo", **HEAD, sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAA==")
        assert (await connection.head())[0] == 101
        await eventually("it counts", lambda: busy(proxy))
        connection.abort()
        await eventually("it left", lambda: idle(proxy))
        await eventually("the container knows", lambda: nobody(sockets))


async def nobody(sockets: Sockets) -> bool:
    return not sockets.open


async def test_a_container_that_ends_it_ends_the_client(sockets: Sockets) -> None:
    async with sidecar(sockets.port) as proxy, client() as session:
        async with session.ws_connect(f"http://127.0.0.1:{proxy.http_port}/echo") as socket:
            await socket.send_str("go away")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await eventually("it left", lambda: idle(proxy))


@pytest.mark.parametrize("limit", ["timeout_s", "idle_timeout_s"])
async def test_the_revisions_time_ends_it(sockets: Sockets, limit: str) -> None:
    async with sidecar(sockets.port, **{limit: 1.5}) as proxy, wire(proxy.http_port) as connection:
        connection.ask("GET", "/echo", **HEAD, sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAA==")
        assert (await connection.head())[0] == 101
        assert await connection.closed() == b""
        await eventually("it left", lambda: idle(proxy))


async def test_the_response_start_timeout_does_not(sockets: Sockets) -> None:
    """Knative's kills WebSockets (issue 16169): the 101 is a start."""
    async with (
        sidecar(sockets.port, response_start_timeout_s=1.5) as proxy,
        client() as session,
        session.ws_connect(f"http://127.0.0.1:{proxy.http_port}/echo") as socket,
    ):
        over = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.7, over.set_result, None)
        await over
        await socket.send_str("still here")
        assert await socket.receive_str() == "still here"


async def test_h2c_by_upgrade_is_ignored(sockets: Sockets) -> None:
    async with sidecar(sockets.port) as proxy, wire(proxy.http_port) as connection:
        for _ in range(2):
            answer = await connection.request("GET", "/declined", connection="Upgrade, HTTP2-Settings", upgrade="h2c")
            assert answer.status == 403
