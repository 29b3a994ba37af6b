from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.base.clock import SystemClock
from controller.kube.client import Deadlines
from controller.kube.informer import Change, Informer
from controller.kube.resources import PODS
from tests.controller.kube.scripted_api import Connection, connected, status
from tests.waiting import eventually


def path(name: str, namespace: str = "ns") -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def is_watched(connection: Connection) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return connection.api.open_watches > 0

    return probe


class Watched:
    """An informer that runs, what it told, and a way to wait for more."""

    def __init__(self, informer: Informer) -> None:
        self.informer = informer
        self.changes: list[Change] = []
        self._more = asyncio.Event()
        informer.subscribe(self._take)

    def _take(self, change: Change) -> None:
        self.changes.append(change)
        self._more.set()

    def told(self) -> list[tuple[str, str]]:
        return [(str(change.kind), change.object["metadata"]["name"]) for change in self.changes]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def informed(connection: Connection, namespace: str | None = None) -> AsyncIterator[Watched]:
    informer = Informer(connection.client, PODS, namespace=namespace, clock=SystemClock(), rng=random.Random(1))
    watched = Watched(informer)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(informer.run())
        async with asyncio.timeout(30):
            await informer.synced()
        yield watched
        running.cancel()


async def test_lists_once_and_then_follows_the_watch(connection: Connection) -> None:
    api = connection.api
    api.put(path("a"), {})
    async with informed(connection) as watched:
        api.put(path("a"), {"n": 2})
        api.put(path("b"), {})
        api.remove(path("a"))
        await watched.until(lambda: len(watched.changes) == 4)
        assert watched.told() == [("ADDED", "a"), ("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]
        assert watched.informer.get("ns", "a") is None
        assert watched.informer.get("ns", "b") is not None
        assert watched.changes[1].old is not None
        assert len(api.lists()) == 1


async def test_a_namespaced_informer_sees_its_namespace_only(connection: Connection) -> None:
    connection.api.put(path("a", "other"), {})
    async with informed(connection, namespace="ns") as watched:
        connection.api.put(path("b", "other"), {})
        connection.api.put(path("c", "ns"), {})
        await watched.until(lambda: bool(watched.changes))
        assert watched.told() == [("ADDED", "c")]


async def test_a_broken_connection_resumes_without_listing_and_without_loss(connection: Connection) -> None:
    api = connection.api
    async with informed(connection) as watched:
        api.put(path("a"), {})
        await watched.until(lambda: len(watched.changes) == 1)
        api.break_watches()
        api.put(path("b"), {})
        api.remove(path("a"))
        await watched.until(lambda: len(watched.changes) == 3)
        assert watched.told() == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]
        assert len(api.lists()) == 1


async def test_an_expired_version_leads_to_a_new_list_and_its_difference(connection: Connection) -> None:
    api = connection.api
    api.put(path("a"), {})
    api.put(path("b"), {})
    async with informed(connection) as watched:
        api.break_watches()
        api.remove(path("a"))
        api.put(path("b"), {"n": 2})
        api.put(path("c"), {})
        api.expire()
        await watched.until(lambda: len(watched.changes) >= 5)
        assert sorted(watched.told()[2:]) == [("ADDED", "c"), ("DELETED", "a"), ("MODIFIED", "b")]
        assert len(api.lists()) == 2


async def test_bookmarks_spare_the_list_when_a_quiet_kind_is_watched_again(connection: Connection) -> None:
    api = connection.api
    async with informed(connection) as watched:
        api.version += 1000  # Other kinds change a lot.
        api.bookmark()
        api.put(path("a"), {})
        await watched.until(lambda: len(watched.changes) == 1)
        api.bookmark()
        api.put(path("a"), {"n": 2})
        await watched.until(lambda: len(watched.changes) == 2)
        api.expire()
        api.break_watches()
        api.put(path("b"), {})
        await watched.until(lambda: len(watched.changes) == 3)
        assert len(api.lists()) == 1


async def test_a_silent_watch_is_replaced(tmp_path: Path) -> None:
    async with connected(tmp_path, Deadlines(watch_silence_s=0.2)) as connection:
        connection.api.mute = True
        async with informed(connection) as watched:
            await eventually("the watch that hangs is open", is_watched(connection))
            connection.api.mute = False
            connection.api.put(path("a"), {})
            await watched.until(lambda: len(watched.changes) == 1)
        assert len(connection.api.watches()) >= 2


async def test_failing_lists_are_repeated_until_one_works(connection: Connection) -> None:
    connection.api.put(path("a"), {})
    connection.api.answers += [status(503, "ServiceUnavailable"), status(403, "Forbidden"), status(404, "NotFound")]
    async with informed(connection) as watched:
        assert watched.told() == [("ADDED", "a")]
        assert len(connection.api.lists()) == 4


async def test_remember_is_seen_at_once_and_told_once(connection: Connection) -> None:
    async with informed(connection) as watched:
        stored = await connection.client.create(PODS, {"metadata": {"name": "a", "namespace": "ns"}})
        watched.informer.remember(stored)
        assert watched.informer.get("ns", "a") is not None
        connection.api.put(path("b"), {})
        await watched.until(lambda: ("ADDED", "b") in watched.told())
        assert watched.told().count(("ADDED", "a")) == 1


async def test_a_late_subscriber_learns_what_is_there(connection: Connection) -> None:
    connection.api.put(path("a"), {})
    async with informed(connection) as watched:
        assert Watched(watched.informer).told() == [("ADDED", "a")]


async def test_a_failing_subscriber_is_loud(connection: Connection) -> None:
    connection.api.put(path("a"), {})
    informer = Informer(connection.client, PODS, clock=SystemClock(), rng=random.Random(1))

    def fail(_: Change) -> None:
        raise ZeroDivisionError

    informer.subscribe(fail)
    async with asyncio.timeout(30):
        with pytest.raises(ZeroDivisionError):
            await informer.run()
