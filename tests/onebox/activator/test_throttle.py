"""Places and waiters, without sockets: every place comes back once, whoever leaves when."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.knative.activator.limits import Limits
from onebox.knative.activator.throttle import Pod, QueueFull, Throttle, choose
from onebox.knative.endpoints import Address

A, B, C = (Address("127.0.0.1", port) for port in (1, 2, 3))


def pods(*in_flight: int) -> list[Pod]:
    return [
        Pod(address=Address("127.0.0.1", port), ready=True, usable=True, in_flight=count)
        for port, count in enumerate(in_flight)
    ]


def throttle(concurrency: int, *ready: Address, not_ready: tuple[Address, ...] = (), **limits: int) -> Throttle:
    made = Throttle(concurrency, limits=Limits(**limits), rng=random.Random(1))  # type: ignore[arg-type]  # Integers only.
    made.set_pods(ready, not_ready)
    return made


def chosen(in_flight: tuple[int, ...], concurrency: int, *, turn: int = 0, seed: int = 1) -> int | None:
    pod = choose(pods(*in_flight), concurrency, turn=turn, rng=random.Random(seed))
    return None if pod is None else pod.address.port


def test_few_places_are_filled_pod_by_pod() -> None:
    assert chosen((0, 0, 0), 1) == 0
    assert chosen((3, 2, 0), 3) == 1
    assert chosen((1, 1), 1) is None


def test_more_places_are_filled_in_turns() -> None:
    assert [chosen((0, 0, 0), 4, turn=turn) for turn in range(4)] == [0, 1, 2, 0]
    assert chosen((4, 1, 4), 4, turn=5) == 1


def test_endless_places_go_to_the_lighter_of_two() -> None:
    assert chosen((), 0) is None
    assert chosen((1000,), 0) == 0
    assert {chosen((5, 1), 0, seed=seed) for seed in range(20)} == {1}
    assert {chosen((1, 1), 0, seed=seed) for seed in range(20)} == {0, 1}
    assert 0 not in {chosen((9, 1, 1), 0, seed=seed) for seed in range(20)}


def test_a_pod_is_used_from_when_it_is_ready_or_says_so() -> None:
    made = throttle(1, not_ready=(A,))
    assert (made.try_take(), made.unusable(), made.capacity) == (None, [A], 0)
    made.set_usable(A, usable=True)
    assert (made.unusable(), made.capacity) == ([], 1)
    made.set_pods(ready=[], not_ready=[A])
    assert made.capacity == 1  # Kubernetes is only late.
    made.set_pods(ready=[A], not_ready=[])
    made.set_pods(ready=[], not_ready=[A])
    assert made.capacity == 0  # It was ready, and is no longer.
    assert made.unusable(ready_only=True) == []


def test_capacity_is_places_times_pods() -> None:
    assert throttle(10, A, B).capacity == 20
    assert throttle(0, A).capacity is None
    assert throttle(0).capacity == 0


def test_a_pod_that_comes_back_under_its_address_keeps_its_count() -> None:
    made = throttle(1, A)
    pod = made.try_take()
    assert pod is not None
    made.set_pods(ready=[A, B], not_ready=[])
    assert made.try_take() is not None
    assert made.try_take() is None
    made.set_pods(ready=[B], not_ready=[])
    made.release(pod)  # Of a pod that is gone: no harm.


async def test_waiters_are_served_in_order() -> None:
    made, order = throttle(1), list[int]()

    async def wait(number: int) -> None:
        pod = await made.take(0)
        order.append(number)
        made.release(pod)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(wait(number))
        await asyncio.sleep(0)
        made.set_pods(ready=[A], not_ready=[])
    assert order == [0, 1, 2, 3, 4]


async def test_whoever_comes_later_does_not_overtake() -> None:
    made = throttle(1, A)
    first = made.try_take()
    assert first is not None
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(made.take(0))
        await asyncio.sleep(0)
        assert made.try_take() is None
        made.release(first)
        assert made.try_take() is None  # The place has been given away already.
        made.release(await waiting)
    assert made.try_take() is not None


async def test_a_place_given_to_one_who_leaves_in_the_same_moment_goes_on() -> None:
    made = throttle(1, A)
    held = made.try_take()
    assert held is not None
    async with asyncio.TaskGroup() as group:
        leaving, staying = group.create_task(made.take(0)), group.create_task(made.take(0))
        await asyncio.sleep(0)
        made.release(held)  # Gives the place to `leaving`,
        leaving.cancel()  # which never learns of it.
        made.release(await staying)
    assert (made.waiting, made.pods[0].in_flight) == (0, 0)


async def test_one_who_leaves_before_a_place_is_there_is_skipped() -> None:
    made = throttle(1, A)
    held = made.try_take()
    assert held is not None
    async with asyncio.TaskGroup() as group:
        leaving, staying = group.create_task(made.take(0)), group.create_task(made.take(0))
        await asyncio.sleep(0)
        leaving.cancel()
        made.release(held)  # Before `leaving` could run.
        made.release(await staying)
    assert (made.waiting, made.pods[0].in_flight) == (0, 0)


async def test_the_queue_is_bounded_in_number_and_bytes() -> None:
    made = throttle(1, waiting_max=2, held_bytes_max=100)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(made.take(50))]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await made.take(51)
        waiting.append(group.create_task(made.take(50)))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await made.take(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        waiting.append(group.create_task(made.take(50)))
        await asyncio.sleep(0)
        assert made.waiting == 2
        for task in waiting:
            task.cancel()


async def test_more_concurrency_lets_waiters_in() -> None:
    made = throttle(1, A)
    assert made.try_take() is not None
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(made.take(0))
        await asyncio.sleep(0)
        made.configure(2)
        await waiting


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("finish"), st.integers(0, 30)),
        st.tuples(st.just("pods"), st.integers(0, 7)),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=60,
)


@given(st.integers(1, 6), steps)
def test_no_order_of_events_loses_or_doubles_a_place(concurrency: int, events: list[tuple[str, int]]) -> None:
    asyncio.run(_play(concurrency, events))


async def _play(concurrency: int, events: list[tuple[str, int]]) -> None:
    made, asking = throttle(concurrency, A), list[asyncio.Task[Pod]]()

    def finished() -> list[asyncio.Task[Pod]]:
        return [task for task in asking if task.done()]

    def inside() -> int:
        return sum(pod.in_flight for pod in made.pods)

    async with asyncio.TaskGroup() as group:
        for event, number in events:
            match event:
                case "ask":
                    asking.append(group.create_task(made.take(0)))
                case "leave" if asking:
                    asking[number % len(asking)].cancel()
                case "finish" if done := [task for task in finished() if not task.cancelled()]:
                    task = done[number % len(done)]
                    asking.remove(task)
                    made.release(task.result())
                case "pods":
                    made.set_pods([A] + [pod for bit, pod in enumerate((B, C)) if number & 1 << bit], [])
                case "turn":
                    await asyncio.sleep(0)
            assert all(pod.in_flight <= concurrency for pod in made.pods)
        for task in asking:
            if not task.done():
                task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        for task in asking:
            if not task.cancelled():
                made.release(task.result())
    assert (made.waiting, inside()) == (0, 0)
