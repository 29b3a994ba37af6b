from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
import uvloop

from controller.base.clock import SystemClock
from controller.base.unix_socket import start_server
from controller.kube.resources import ENDPOINTS, REVISIONS
from controller.reconcile.plan import Key
from onebox.home import OneboxSettings
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.run import Activator, ActivatorInformers, start
from onebox.knative.activator.targets import Target, parse_limits
from onebox.knative.stats_link import ActivatorStat, decode_stat, socket_path
from tests.onebox.fake_pod import FakePod
from tests.onebox.knative_world import World, background, world
from tests.waiting import eventually


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """These tests run on the loop that the activator runs on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Bench:
    """An activator with everything around it but a real engine."""

    world: World
    activator: Activator
    session: aiohttp.ClientSession
    stats: list[ActivatorStat]
    """What the autoscaler heard."""
    connections: list[asyncio.StreamWriter]
    """Of the activator to the autoscaler."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.activator.port}"

    def to(self, revision: str) -> dict[str, str]:
        return {"Knative-Serving-Revision": revision, "Knative-Serving-Namespace": "default"}

    def target(self, revision: str = "r-1") -> Target:
        target = self.activator.targets.get(Key("default", revision))
        assert target is not None
        return target

    async def put(
        self,
        revision: str = "r-1",
        *,
        ready: Sequence[FakePod] = (),
        not_ready: Sequence[FakePod] = (),
        **spec: object,
    ) -> None:
        """A revision with these pods, once the activator knows of both."""
        self.world.put_revision(revision, spec=dict(spec))
        self.world.put_pods(revision, [pod.ports for pod in ready], [pod.ports for pod in not_ready])
        wanted = {(pod.ports.data, pod in ready) for pod in (*ready, *not_ready)}

        async def known() -> bool:
            target = self.activator.targets.get(Key("default", revision))
            limits = parse_limits(self.world.get(REVISIONS, revision))
            return (
                target is not None
                and target.limits == limits
                and {(pod.address.port, pod.ready) for pod in target.throttle.pods} == wanted
            )

        await eventually("the activator knows the pods", known)

    async def waiting(self, count: int, revision: str = "r-1") -> None:
        """Returns when so many requests wait."""

        async def wait() -> bool:
            return self.target(revision).throttle.waiting == count

        await eventually(f"{count} requests wait", wait)

    async def ask(self, revision: str = "r-1", path: str = "/", body: bytes | io.BytesIO = b"") -> tuple[int, str]:
        async with self.session.post(self.url + path, data=body, headers=self.to(revision)) as answer:
            return answer.status, await answer.text()


async def listen_to_stats(
    world: World, stats: list[ActivatorStat], connections: list[asyncio.StreamWriter] | None = None
) -> asyncio.Server:
    """In place of the autoscaler."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connections is not None:
            connections.append(writer)
        while line := await reader.readline():
            stats.append(decode_stat(line))
        writer.close()

    return await start_server(socket_path(world.home), take)


@pytest.fixture
def limits() -> Limits:
    """A test that needs others is parametrized with them."""
    return Limits()


@pytest.fixture
async def bench(tmp_path: Path, limits: Limits) -> AsyncIterator[Bench]:
    settings = replace(OneboxSettings(), activator_port=0)
    async with world(tmp_path, settings) as made, aiohttp.ClientSession() as session, background() as group:
        stats: list[ActivatorStat] = []
        connections: list[asyncio.StreamWriter] = []
        server = await listen_to_stats(made, stats, connections)
        informers = ActivatorInformers(
            revisions=made.informer(REVISIONS, group), endpoints=made.informer(ENDPOINTS, group)
        )
        activator = await start(made.home, group, informers, limits=limits, clock=SystemClock(), rng=random.Random(1))
        await activator.targets.synced()
        yield Bench(made, activator, session, stats, connections)
        server.close()
        await activator.server.drain()
        activator.close()
