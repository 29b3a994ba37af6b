"""The activator as a process of its own: started, asked, ended."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from onebox.home import OneboxSettings
from onebox.knative.stats_link import ActivatorStat
from tests.onebox.activator.conftest import listen_to_stats
from tests.onebox.fake_pod import fake_pod
from tests.onebox.knative_world import World, world
from tests.ports import free_port
from tests.waiting import eventually

HEADERS = {"Knative-Serving-Revision": "r-1", "Knative-Serving-Namespace": "default"}


@dataclass
class Started:
    world: World
    process: asyncio.subprocess.Process
    url: str
    stats: list[ActivatorStat]


async def answers(url: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers={"K-Network-Probe": "activator"}) as answer,
        ):
            return await answer.text() == "activator"
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Started]:
    port = free_port()
    async with world(folder, replace(OneboxSettings(), activator_port=port)) as made:
        kubeconfig = made.home.component_kubeconfig("activator")
        kubeconfig.parent.mkdir(parents=True)
        shutil.copy(folder / "kubeconfig", kubeconfig)
        stats: list[ActivatorStat] = []
        server = await listen_to_stats(made, stats)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "onebox.knative.activator", "--home", str(made.home.root)
        )
        url = f"http://127.0.0.1:{port}"
        try:
            await eventually("the activator answers", lambda: answers(url))
            yield Started(made, process, url, stats)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            server.close()


async def test_it_answers_what_it_has_before_it_ends(tmp_path: Path) -> None:
    async with (
        started(tmp_path) as activator,
        fake_pod() as pod,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as group,
    ):
        activator.world.put_revision("r-1")
        activator.world.put_pods("r-1")

        async def ask() -> tuple[int, str]:
            async with session.get(activator.url, headers=HEADERS) as answer:
                return answer.status, await answer.text()

        asking = group.create_task(ask())

        async def poked() -> bool:
            return bool(activator.stats)

        await eventually("the poke", poked)
        activator.process.send_signal(signal.SIGTERM)

        async def refused() -> bool:
            return not await answers(activator.url)

        await eventually("no new connections", refused)
        activator.world.put_pods("r-1", ready=[pod.ports])
        assert await asking == (200, "pod-1: 0 bytes")
        assert await activator.process.wait() == 0


async def test_it_works_in_a_home_with_a_long_path_and_spaces(tmp_path: Path) -> None:
    folder = tmp_path / ("a folder " + "with a long name " * 8).strip()
    folder.mkdir()
    async with started(folder) as activator:
        activator.world.put_revision("r-1")
        activator.world.put_pods("r-1")
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            asking = group.create_task(session.get(activator.url, headers=HEADERS).__aenter__())

            async def poked() -> bool:
                return bool(activator.stats)

            await eventually("the poke", poked)
            asking.cancel()
