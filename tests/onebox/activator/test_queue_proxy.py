"""The activator before a real queue-proxy, and the autoscaler's view of it: three programs that have to mean the same."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from onebox.knative.autoscaler.scrape import PodStat, Scraper
from onebox.knative.endpoints import Address
from tests.onebox.activator.conftest import Bench
from tests.onebox.fake_pod import FakePod, fake_pod
from tests.onebox.knative_world import PodPorts
from tests.ports import free_port
from tests.waiting import eventually


@dataclass
class Sidecar:
    """A queue-proxy process before a container."""

    container: FakePod
    pod: FakePod
    """Where it listens, as Endpoints would have it."""


@asynccontextmanager
async def sidecar() -> AsyncIterator[Sidecar]:
    async with fake_pod("container") as container:
        ports = PodPorts("pod-1", free_port(), free_port())
        environment = os.environ | {
            "USER_PORT": str(container.ports.data),
            "LADLE_HTTP_PORT": str(ports.data),
            "LADLE_ADMIN_PORT": str(ports.stats),
            "LADLE_HOST": "127.0.0.1",
            "CONTAINER_CONCURRENCY": "0",
            "REVISION_TIMEOUT_SECONDS": "30",
            "SERVING_POD": "pod-1",
            "SERVING_READINESS_PROBE": json.dumps({"tcpSocket": {"port": container.ports.data}, "successThreshold": 1}),
        }
        pod = FakePod("pod-1")
        pod.ports = ports
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "runtimes.queueproxy", env=environment)
        try:
            yield Sidecar(container, pod)
        finally:
            process.kill()
            await process.wait()


async def test_a_waiting_request_goes_through_as_soon_as_the_queue_proxy_is_up(bench: Bench) -> None:
    async with sidecar() as queue_proxy:
        await bench.put(not_ready=[queue_proxy.pod])
        assert await bench.ask(path="/v1/models/m", body=b"abc") == (200, "container: 3 bytes")
        request = queue_proxy.container.requests[-1]
        assert request.headers["Host"] == f"127.0.0.1:{bench.activator.port}"  # The client's, through K-Original-Host.
        assert not {"K-Original-Host", "Knative-Serving-Revision"} & set(request.headers)


async def test_what_goes_through_the_activator_counts_as_proxied(bench: Bench) -> None:
    async with sidecar() as queue_proxy:
        await bench.put(not_ready=[queue_proxy.pod])
        await bench.ask()
        queue_proxy.container.gate.clear()
        scraper = Scraper()
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(bench.ask()) for _ in range(3)]
            stats: list[PodStat] = []

            async def full_second() -> bool:
                stat = await scraper.scrape(Address("127.0.0.1", queue_proxy.pod.ports.stats))
                stats.extend([stat] if stat is not None else [])
                return bool(stats) and stats[-1].average_concurrency > 2.9

            await eventually("a second with three requests inside", full_second)
            assert stats[-1].average_proxied_concurrency == stats[-1].average_concurrency
            queue_proxy.container.gate.set()
            assert {(await task)[0] for task in asking} == {200}
        scraper.close()
