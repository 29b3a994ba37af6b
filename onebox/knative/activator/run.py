"""The activator as a whole: informers, the link to the autoscaler, the server, until SIGTERM."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from controller.base.clock import Clock, SystemClock
from controller.base.logging import get_logger
from controller.base.metrics_socket import metrics_on
from controller.kube.client import KubeClient
from controller.kube.informer import Informer
from controller.kube.resources import ENDPOINTS, REVISIONS
from onebox.home import Home, metrics_socket
from onebox.knative.activator.carriers import Http1Carrier
from onebox.knative.activator.forward import Forwarder
from onebox.knative.activator.http2 import Http2Carrier
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.load import LoadLink
from onebox.knative.activator.metrics import collect_requests
from onebox.knative.activator.pods import PodPool
from onebox.knative.activator.probes import Prober
from onebox.knative.activator.server import ActivatorServer
from onebox.knative.activator.targets import Targets, keep_parts
from onebox.knative.stats_link import socket_path
from onebox.open_files import allow_open_files

log = get_logger(__name__)


async def run(home: Home) -> None:
    """Holds and forwards requests until SIGTERM, then until those that it has are answered."""
    allow_open_files()  # Every request that waits holds a socket.
    clock, rng = SystemClock(), random.Random()  # noqa: S311  # Chooses pods, not secrets.
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with KubeClient.open(home.component_kubeconfig("activator"), user_agent="ladle-activator") as client:
        informers = ActivatorInformers(
            revisions=Informer(client, REVISIONS, clock=clock, rng=rng, keep=keep_parts),
            endpoints=Informer(client, ENDPOINTS, clock=clock, rng=rng, keep=keep_parts),
        )
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            background = [group.create_task(informer.run()) for informer in (informers.revisions, informers.endpoints)]
            activator = await start(home, group, informers, limits=Limits(), clock=clock, rng=rng)
            background.extend(activator.background)
            collect = partial(collect_requests, activator.targets)
            await stack.enter_async_context(metrics_on(metrics_socket(home, "activator"), [collect]))
            await stop.wait()
            log.info("draining")
            await activator.server.drain()
            for task in background:
                task.cancel()
            activator.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivatorInformers:
    """What the activator looks at; whoever makes it runs them."""

    revisions: Informer
    endpoints: Informer


@dataclass(frozen=True, slots=True, kw_only=True)
class Activator:
    """A running activator."""

    server: ActivatorServer
    targets: Targets
    pool: PodPool
    http2: Http2Carrier
    port: int
    background: tuple[asyncio.Task[None], ...]
    """Runs until cancelled."""

    def close(self) -> None:
        """Ends the connections to pods."""
        self.pool.close()
        self.http2.close()


async def start(
    home: Home,
    group: asyncio.TaskGroup,
    informers: ActivatorInformers,
    *,
    limits: Limits,
    clock: Clock,
    rng: random.Random,
) -> Activator:
    """Starts it in this group; it listens when this returns."""
    targets = Targets(informers.revisions, informers.endpoints, limits=limits, rng=rng)
    targets.watch()
    load = LoadLink(socket_path(home), clock)
    pool, http2 = PodPool(clock, limits), Http2Carrier(group, limits=limits, clock=clock)
    prober = Prober(pool, group)
    forwarder = Forwarder(targets, load, prober=prober, limits=limits, clock=clock)
    server = ActivatorServer(
        forwarder, load, group, http1=Http1Carrier(pool, clock), http2=http2, limits=limits, clock=clock
    )
    port = await server.listen("127.0.0.1", home.settings().activator_port)
    log.info("listening", port=port)
    background = (group.create_task(load.run()), group.create_task(_sweep_forever(server, pool, http2, limits)))
    return Activator(server=server, targets=targets, pool=pool, http2=http2, port=port, background=background)


async def _sweep_forever(server: ActivatorServer, pool: PodPool, http2: Http2Carrier, limits: Limits) -> None:
    while True:
        await asyncio.sleep(limits.sweep_s)
        server.sweep()
        pool.sweep()
        http2.sweep()
