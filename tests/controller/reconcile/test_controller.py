from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from controller.base.clock import SystemClock
from controller.base.errors import TransientError, UserError
from controller.base.json import JsonView
from controller.kube.informer import Informer
from controller.kube.resources import PODS
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome
from tests.controller.kube.scripted_api import connected

A, B = Key("ns", "a"), Key("ns", "b")


class Reconciles:
    """A reconcile function that notes its calls and does as told."""

    def __init__(self, answer: Callable[[Key, int], Outcome]) -> None:
        self.calls: list[Key] = []
        self.running = 0
        self._answer = answer
        self._more = asyncio.Event()

    async def __call__(self, key: Key) -> Outcome:
        self.calls.append(key)
        self._more.set()
        return self._answer(key, self.calls.count(key))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def running(reconcile: Callable[[Key], Awaitable[Outcome]], workers: int = 2) -> AsyncIterator[Controller]:
    controller = Controller("test", reconcile, workers=workers, clock=SystemClock(), rng=random.Random(1))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(controller.run())
        yield controller
        task.cancel()


async def test_failures_come_again_and_one_objects_failures_do_not_stop_another() -> None:
    def answer(key: Key, call: int) -> Outcome:
        if key == A and call == 1:
            raise TransientError("not yet")
        if key == A and call == 2:
            raise ZeroDivisionError("a bug")
        return Outcome()

    reconciles = Reconciles(answer)
    async with running(reconciles, workers=1) as controller:
        controller.enqueue(A)
        controller.enqueue(B)
        await reconciles.until(lambda: reconciles.calls.count(A) == 3)
    assert reconciles.calls.count(B) == 1


async def test_wrong_input_is_not_tried_again_until_something_changes() -> None:
    def answer(key: Key, _: int) -> Outcome:
        if key == A:
            raise UserError("Wrong", "spec.x = 1, must be 2")
        return Outcome()

    reconciles = Reconciles(answer)
    async with running(reconciles) as controller:
        controller.enqueue(A)
        await reconciles.until(lambda: A in reconciles.calls)
        controller.enqueue(B, after_s=0.3)  # Several times the first back-off.
        await reconciles.until(lambda: B in reconciles.calls)
        assert reconciles.calls == [A, B]
        controller.enqueue(A)
        await reconciles.until(lambda: reconciles.calls == [A, B, A])


async def test_an_outcome_can_ask_to_be_looked_at_again() -> None:
    reconciles = Reconciles(lambda _, call: Outcome(requeue_after_s=0.01 if call < 3 else None))
    async with running(reconciles) as controller:
        controller.enqueue(A)
        await reconciles.until(lambda: len(reconciles.calls) == 3)


async def test_one_object_is_never_worked_on_twice_at_once() -> None:
    running_now: list[Key] = []
    finished = asyncio.Event()
    calls = 0

    async def reconcile(key: Key) -> Outcome:
        nonlocal calls
        assert key not in running_now
        running_now.append(key)
        controller.enqueue(key)
        for _ in range(5):
            await asyncio.sleep(0)
        running_now.remove(key)
        calls += 1
        if calls > 20:
            finished.set()
        return Outcome()

    async with running(reconcile, workers=4) as controller:
        controller.enqueue(A)
        controller.enqueue(B)
        async with asyncio.timeout(30):
            await finished.wait()


async def test_changes_of_watched_objects_bring_the_keys_of_their_old_and_new_state(tmp_path: Path) -> None:
    def owner_of(item: JsonView) -> list[Key]:
        return [Key(item["metadata"]["namespace"], item["owner"])]

    reconciles = Reconciles(lambda _key, _call: Outcome())
    path = "/api/v1/namespaces/ns/pods/p"
    async with connected(tmp_path) as connection, running(reconciles) as controller:
        informer = Informer(connection.client, PODS, clock=SystemClock(), rng=random.Random(1))
        connection.api.put(path, {"owner": "a"})
        controller.watch(informer, owner_of)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(informer.run())
            await reconciles.until(lambda: reconciles.calls == [A])
            connection.api.put(path, {"owner": "b"})
            await reconciles.until(lambda: sorted(reconciles.calls) == [A, A, B])
            connection.api.remove(path)
            await reconciles.until(lambda: sorted(reconciles.calls) == [A, A, B, B])
            task.cancel()
