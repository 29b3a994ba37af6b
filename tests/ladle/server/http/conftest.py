"""A server around a handler, in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from ladle.clock import SystemClock
from ladle.server.http.application import Dispatcher, Handler
from ladle.server.http.limits import HttpLimits
from ladle.server.http.server import HttpServer


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """On the loop that servers run on, and on the one that they fall back to."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


Start = Callable[..., Awaitable[HttpServer]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(handler, limits=...)` gives a listening server with `port`."""
    servers: list[HttpServer] = []
    async with asyncio.TaskGroup() as tasks:

        async def begin(handler: Handler, *, limits: HttpLimits | None = None, **options: Any) -> HttpServer:
            server = HttpServer(Dispatcher(handler, tasks), tasks, clock=SystemClock(), limits=limits, **options)
            await server.listen("127.0.0.1", 0)
            servers.append(server)
            return server

        yield begin
        for server in servers:
            server.close()
