from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controller.base.clock import SystemClock
from controller.base.unix_socket import connected
from controller.kube.resources import CONFIG_MAPS, DEPLOYMENTS, ENDPOINTS, REVISIONS
from onebox.home import Home, OneboxSettings
from onebox.istio.bootstrap import admin_socket
from onebox.knative.autoscaler.autoscaler import Autoscaler, AutoscalerInformers
from onebox.knative.autoscaler.report import ScaleBoard, ScaleReport
from onebox.knative.stats_link import ActivatorStat, encode_stat, socket_path
from tests.onebox.knative_world import World, background, world
from tests.waiting import eventually


@dataclass
class FakeGateway:
    """Envoy's admin page, and the activator's own answer to a probe."""

    hosts: dict[str, list[int]] = field(default_factory=dict)
    """Ports by cluster."""
    asked: list[str] = field(default_factory=list)
    activator_answers: bool = True
    probes: int = 0
    port: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/healthz":
            self.probes += 1
            return web.Response(text="activator" if self.activator_answers else "who?")
        self.asked.append(request.query["filter"])
        statuses = [
            {
                "name": cluster,
                "host_statuses": [
                    {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}} for port in ports
                ],
            }
            for cluster, ports in self.hosts.items()
        ]
        return web.json_response({"cluster_statuses": statuses})


@asynccontextmanager
async def fake_gateway(home: Home) -> AsyncIterator[FakeGateway]:
    """Both at once: the activator on a port, Envoy's admin page on its socket."""
    gateway = FakeGateway()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.port = runner.addresses[0][1]
    home.run.mkdir(parents=True)
    await web.UnixSite(runner, str(admin_socket(home))).start()
    try:
        yield gateway
    finally:
        await runner.cleanup()


@dataclass
class Engine:
    """An autoscaler among everything that it talks to."""

    world: World
    gateway: FakeGateway
    board: ScaleBoard

    def report(self, revision: str = "r-1") -> ScaleReport:
        report = self.board.of("default", revision)
        assert report is not None
        return report

    def writes(self) -> list[bytes]:
        return [body for verb, path, body in self.world.api.bodies if verb == "PATCH"]

    async def until(self, what: str, probe: Callable[[], Any], *, timeout_s: float = 15.0) -> None:
        async def check() -> bool:
            return bool(probe())

        await eventually(what, check, timeout_s=timeout_s)

    async def known(self, revision: str = "r-1") -> None:
        await self.until("a first report", lambda: self.board.of("default", revision) is not None)

    async def listens(self) -> bool:
        try:
            async with connected(socket_path(self.world.home)):
                return True
        except OSError:
            return False

    async def tell(self, concurrency: float = 1.0, revision: str = "r-1") -> None:
        """As the activator does for a first request."""
        stat = ActivatorStat(
            namespace="default", name=revision, average_concurrent_requests=concurrency, request_count=concurrency
        )
        async with connected(socket_path(self.world.home)) as (_, writer):
            writer.write(encode_stat(stat))
            await writer.drain()


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[None]:
    """A process with the autoscaler, and its end."""
    async with background() as group:
        informers = AutoscalerInformers(
            revisions=engine.world.informer(REVISIONS, group),
            deployments=engine.world.informer(DEPLOYMENTS, group),
            endpoints=engine.world.informer(ENDPOINTS, group),
            config_maps=engine.world.informer(CONFIG_MAPS, group),
        )
        autoscaler = Autoscaler(
            engine.world.client,
            informers,
            board=engine.board,
            home=engine.world.home,
            clock=SystemClock(),
            rng=random.Random(1),
        )
        group.create_task(autoscaler.run())
        await eventually("the autoscaler listens", engine.listens)
        yield


@pytest.fixture
async def stopped(tmp_path: Path) -> AsyncIterator[Engine]:
    """Everything but the autoscaler itself; `running` starts it."""
    async with fake_gateway(Home(tmp_path / "home")) as gateway:
        settings = replace(OneboxSettings(), activator_port=gateway.port)
        async with world(tmp_path, settings) as made:
            made.put_config("config-autoscaler", {"target-burst-capacity": "0", "scale-to-zero-grace-period": "1s"})
            yield Engine(made, gateway, ScaleBoard())


@pytest.fixture
async def engine(stopped: Engine) -> AsyncIterator[Engine]:
    async with running(stopped):
        yield stopped
