"""A container whose port is named h2c hears HTTP/2 only, whatever its clients speak (F11 of Knative's conformance)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from ladle.clock import SystemClock
from ladle.server.http.application import Dispatcher
from ladle.server.http.limits import HttpLimits
from ladle.server.http.messages import TEXT, Request, Response
from ladle.server.http2.server import Http2Connection, Http2Server
from runtimes.queueproxy.sidecar import SidecarSettings
from tests.ladle.server.wire import ask
from tests.runtimes.foreign import idle, sidecar
from tests.waiting import eventually


async def answer(request: Request) -> Response:
    """What the container was asked, or nothing at all for /204."""
    if request.path == "/204":
        return Response(204, content_type=b"")
    assert request.stream is not None
    body = b"".join([piece async for piece in request.stream])
    seen = f"{request.method} {request.path} HTTP/{request.version} {request.header(b'host')} {len(body)}"
    return Response(200, seen.encode(), content_type=TEXT, headers=((b"x-mine", b"1"),))


@contextlib.asynccontextmanager
async def h2c_container() -> AsyncIterator[int]:
    """The port of a server that understands nothing but HTTP/2."""
    async with asyncio.TaskGroup() as tasks:
        server = Http2Server(Dispatcher(answer, tasks), tasks, clock=SystemClock(), limits=HttpLimits())
        listener = await asyncio.get_running_loop().create_server(lambda: Http2Connection(server), "127.0.0.1", 0)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            server.close()


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
async def test_requests_over_http_1_arrive_over_http_2(size: int) -> None:
    async with h2c_container() as port, sidecar(port, h2c=True) as proxy:
        for _ in range(2):
            found = await ask(proxy.http_port, "POST", "/v1?a=b", bytes(size), host="iris.example.com")
            assert (found.status, found.body) == (200, f"POST /v1 HTTP/2 iris.example.com {size}".encode())
            assert found.headers["x-mine"] == "1"
        await eventually("nobody is inside", lambda: idle(proxy))


async def test_answers_without_a_body_end() -> None:
    async with h2c_container() as port, sidecar(port, h2c=True) as proxy:
        assert (await ask(proxy.http_port, "GET", "/204", None)).status == 204
        head = await ask(proxy.http_port, "HEAD", "/", None, host="a")
        assert (head.status, head.body) == (200, b"")


async def test_a_container_that_is_not_there_is_a_502(unused_tcp_port: int) -> None:
    async with sidecar(unused_tcp_port, h2c=True) as proxy:
        assert (await ask(proxy.http_port, "GET", "/", None)).status == 502


def test_knatives_environment_says_so() -> None:
    assert SidecarSettings.parse([], {"QUEUE_SERVING_PORT": "8013"}).h2c
    assert not SidecarSettings.parse([], {"QUEUE_SERVING_PORT": "8012"}).h2c
