"""Small HTTP servers that tell what they saw; `?sleep=`, `?fail=N&code=C` make them slow or fail the first N times."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Backend:
    name: str
    port: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.Response:
        saw = {
            "service": self.name,
            "method": request.method,
            "path": request.path_qs,
            "host": request.host,
            "headers": {name.lower(): value for name, value in request.headers.items() if name.lower() != "host"},
        }
        self.seen.append(saw)
        if "sleep" in request.query:
            await _pass(float(request.query["sleep"]))
        status = 200
        if self.failures[request.path_qs] < int(request.query.get("fail", 0)):
            self.failures[request.path_qs] += 1
            status = int(request.query.get("code", 503))
        return web.json_response(saw, status=status, headers={"x-from": self.name})


async def _pass(seconds: float) -> None:
    """Lets time pass; a cancelled request ends the wait."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        pass


@asynccontextmanager
async def running_backends(*names: str) -> AsyncIterator[dict[str, Backend]]:
    """A server for each name, on a free port."""
    async with AsyncExitStack() as stack:
        backends = {}
        for name in names:
            backends[name] = backend = Backend(name)
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", backend.answer)
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            backend.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        yield backends
