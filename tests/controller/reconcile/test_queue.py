from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from controller.base.clock import SystemClock
from controller.reconcile.plan import Key
from controller.reconcile.queue import BACKOFF_MAX_S, BACKOFF_MIN_S, WorkQueue

A, B = Key("ns", "a"), Key("ns", "b")


class HandClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s


def queue(clock: HandClock | None = None) -> WorkQueue:
    return WorkQueue(clock or HandClock(), random.Random(1))


def drain(work: WorkQueue) -> list[Key]:
    taken = []
    while (key := work.take_ready()) is not None:
        taken.append(key)
    return taken


def test_a_key_stands_in_line_once() -> None:
    work = queue()
    for key in (A, B, A):
        work.add(key)
    assert drain(work) == [A, B]


def test_a_key_that_changes_while_worked_on_comes_again_but_not_at_the_same_time() -> None:
    work = queue()
    work.add(A)
    assert work.take_ready() == A
    work.add(A)
    work.add(A)
    assert work.take_ready() is None
    work.done(A)
    assert drain(work) == [A]
    work.done(A)
    assert drain(work) == []


def test_failures_double_the_delay_up_to_a_limit_and_success_forgets_them() -> None:
    clock = HandClock()
    work = queue(clock)
    delays = []
    work.add(A)
    for _ in range(40):
        assert work.take_ready() == A
        delays.append(work.retry(A))
        assert work.take_ready() is None
        clock.now_s += delays[-1]
    for number, delay_s in enumerate(delays):
        full_s = min(BACKOFF_MIN_S * 2**number, BACKOFF_MAX_S)
        assert full_s / 2 <= delay_s <= full_s
    assert work.take_ready() == A
    work.done(A)
    work.add(A)
    assert work.take_ready() == A
    assert work.retry(A) <= BACKOFF_MIN_S


def test_of_two_delays_the_sooner_counts_and_the_later_is_void() -> None:
    clock = HandClock()
    work = queue(clock)
    work.add_after(A, 10)
    work.add_after(A, 2)
    work.add_after(A, 5)
    assert work.next_due_s() == clock.now_s + 2
    clock.now_s += 2
    assert drain(work) == [A]
    work.done(A)
    clock.now_s += 20
    assert drain(work) == []
    assert len(work) == 0


def test_a_delayed_key_can_still_be_added_at_once() -> None:
    clock = HandClock()
    work = queue(clock)
    work.add_after(A, 10)
    work.add(A)
    assert drain(work) == [A]
    work.done(A)
    clock.now_s += 10
    assert drain(work) == [A]


async def test_take_wakes_for_new_and_for_due_keys() -> None:
    work = WorkQueue(SystemClock(), random.Random(1))
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(work.take())
        work.add_after(B, 0.05)
        assert await waiting == B
        waiting = tasks.create_task(work.take())
        work.add_after(A, 3600)
        work.add(B)
        work.done(B)
        assert await waiting == B


async def test_cancelling_one_waiting_worker_loses_no_key() -> None:
    work = WorkQueue(SystemClock(), random.Random(1))
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        first, second = tasks.create_task(work.take()), tasks.create_task(work.take())
        work.add_after(A, 0.02)
        first.cancel()
        assert await second == A


async def test_a_worker_that_is_cancelled_in_its_turn_passes_the_key_on() -> None:
    work = queue()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        first, second = tasks.create_task(work.take()), tasks.create_task(work.take())
        await asyncio.sleep(0)  # Both wait now.
        work.add(A)
        first.cancel()
        assert await second == A


async def test_a_key_that_is_due_sooner_than_another_is_not_made_to_wait_for_it() -> None:
    work = WorkQueue(SystemClock(), random.Random(1))
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(work.take())
        await asyncio.sleep(0)
        work.add_after(A, 3600)
        work.add_after(B, 0.02)
        assert await waiting == B


async def test_all_workers_get_something_to_do() -> None:
    work = WorkQueue(SystemClock(), random.Random(1))
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        workers = [tasks.create_task(work.take()) for _ in range(2)]
        work.add(A)
        work.add(B)
    assert {worker.result() for worker in workers} == {A, B}


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "later", "take", "done", "retry", "tick"]), st.integers(0, 3)), max_size=60
    )
)
def test_no_key_is_worked_on_twice_and_none_is_lost(steps: list[tuple[str, int]]) -> None:
    clock = HandClock()
    work = queue(clock)
    owed: set[Key] = set()
    working: set[Key] = set()
    for verb, number in steps:
        key = Key("ns", str(number))
        if verb == "add":
            work.add(key)
            owed.add(key)
        elif verb == "later":
            work.add_after(key, 1 + number)
            owed.add(key)
        elif verb == "tick":
            clock.now_s += 1
        elif verb == "take":
            taken = work.take_ready()
            if taken is not None:
                assert taken not in working
                working.add(taken)
                owed.discard(taken)
        elif key in working:
            working.discard(key)
            if verb == "retry":
                work.retry(key)
                owed.add(key)
            else:
                work.done(key)
    for key in working:
        work.done(key)
    clock.now_s += 1000
    assert owed <= set(drain(work))
