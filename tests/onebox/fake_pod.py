"""A pod as the Knative parts see it: a data port with queue-proxy's probe answers, and an admin port that tells its load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.onebox.knative_world import PodPorts


@dataclass
class FakePod:
    """What it does can be changed while it runs."""

    name: str
    ready: bool = True
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Requests wait for it; set from the beginning."""
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    probes: int = 0
    scrapes: int = 0
    running: int = 0
    running_max: int = 0
    concurrency: float = 0.0
    """What it tells the autoscaler."""
    proxied: float = 0.0
    ports: PodPorts = field(init=False)

    def __post_init__(self) -> None:
        self.gate.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("User-Agent", "").startswith("Knative-Activator-Probe"):
            self.probes += 1
            return web.Response(text="queue") if self.ready else web.Response(status=503)
        self.requests.append(request)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            await self.gate.wait()
            if self.handler is not None:
                return await self.handler(request)
            self.bodies.append(await request.read())
            return web.Response(text=f"{self.name}: {len(self.bodies[-1])} bytes")
        finally:
            self.running -= 1

    async def stats(self, request: web.Request) -> web.StreamResponse:
        self.scrapes += 1
        return web.json_response(
            {
                "pod": self.name,
                "average_concurrent_requests": self.concurrency,
                "average_proxied_concurrent_requests": self.proxied,
                "request_count": self.concurrency,
                "proxied_request_count": self.proxied,
                "process_uptime_s": 1.0,
            }
        )


@asynccontextmanager
async def fake_pod(name: str = "pod-1", **settings: object) -> AsyncIterator[FakePod]:
    """A running pod; its ports are free ones."""
    pod = FakePod(name, **settings)  # type: ignore[arg-type]  # Fields of FakePod.
    data, stats = await _listen(pod.serve), await _listen(pod.stats)
    pod.ports = PodPorts(name, _port(data), _port(stats))
    try:
        yield pod
    finally:
        await data.cleanup()
        await stats.cleanup()


async def _listen(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.AppRunner:
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", handler)
    # A client that goes away cancels its handler, as it does in our runtimes.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


def _port(runner: web.AppRunner) -> int:
    port: int = runner.addresses[0][1]
    return port
