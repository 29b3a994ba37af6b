"""What a cluster asks a controller over HTTP: whether it lives, and its metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from controller.base.exposition import Collect, render_page

_STOP_S = 1.0
"""Longest wait for requests in flight at the end; a guess, an answer takes milliseconds."""


@asynccontextmanager
async def probes_on(port: int, collect: Iterable[Collect], *, host: str | None = None) -> AsyncIterator[int]:
    """Answers GET /healthz and GET /metrics while the block runs; the port, which is chosen where `port` is 0.

    The answers come from the event loop of the block, so that one which hangs does not give any. `host` None is every address.
    """
    collectors = tuple(collect)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=render_page(family for each in collectors for family in each()))

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
