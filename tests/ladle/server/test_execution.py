"""Where a model runs: quick ones in the loop, slow ones in threads, one that is not thread-safe never twice."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ladle.protocol.messages import InferRequest
from ladle.server.eventually import is_later
from ladle.server.execution import INLINE_S_MAX, Call, Runner
from tests.ladle.server.models import GateModel
from tests.ladle.server.serving import served
from tests.ladle.server.wire import wire
from tests.waiting import eventually


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s


class Bench:
    """A runner with a function whose duration the test chooses."""

    def __init__(self, threads: int = 1) -> None:
        self.clock = ManualClock()
        self.runner = Runner(self.clock, threads=threads)
        self.takes_s = 0.0
        self.durations: list[float] = []
        self.call = Call(self.function, self.durations.append)

    def function(self, request: InferRequest) -> bool:
        self.clock.now_s += self.takes_s
        return threading.current_thread() is threading.main_thread()

    async def inline(self, size_bytes: int = 100) -> bool:
        answer = self.runner.run(self.call, InferRequest(model_name="m", size_bytes=size_bytes))
        result: bool = await answer if is_later(answer) else answer  # type: ignore[assignment]
        return result


async def test_a_quick_function_moves_into_the_loop_after_some_calls() -> None:
    bench = Bench()
    bench.takes_s = INLINE_S_MAX / 10
    places = [await bench.inline() for _ in range(40)]
    assert not places[0]
    assert places[-1]
    assert places == sorted(places)
    assert bench.durations == pytest.approx([INLINE_S_MAX / 10] * 40)


async def test_it_leaves_the_loop_when_it_becomes_slow_but_not_for_one_outlier() -> None:
    bench = Bench()
    for _ in range(100):
        await bench.inline()
    bench.takes_s = 1.0
    assert await bench.inline()
    bench.takes_s = 0.0
    assert await bench.inline()
    bench.takes_s = 1.0
    for _ in range(5):
        await bench.inline()
    assert not await bench.inline()


async def test_requests_of_another_size_are_judged_apart() -> None:
    bench = Bench()
    for _ in range(100):
        await bench.inline(100)
    assert await bench.inline(120)
    assert not await bench.inline(1_000_000)


async def test_what_a_thread_raises_is_raised_here() -> None:
    def fails(request: InferRequest) -> Any:
        raise KeyError("x")

    runner = Runner(ManualClock(), threads=1)
    answer = runner.run(Call(fails, lambda _: None), InferRequest(model_name="m"))
    assert is_later(answer)
    with pytest.raises(KeyError, match="x"):
        await answer


@pytest.mark.parametrize(("thread_safe", "peak"), [(False, 1), (True, 2)])
async def test_a_model_runs_twice_at_once_only_if_it_may(thread_safe: bool, peak: int) -> None:
    model = GateModel(thread_safe=thread_safe)
    async with served(model) as app, asyncio.TaskGroup() as group:
        app.server.repository.find("gate").runner._threads = peak  # This machine may have one core.
        asked = [group.create_task(app.v1("gate", {"instances": []})) for _ in range(4)]
        await eventually("as many run as may", lambda: answered(lambda: model.inside == peak))
        model.release.set()
        await asyncio.wait(asked)
        assert {task.result().text for task in asked} == {'{"predictions":[1]}'}
    assert model.peak == peak


async def test_other_requests_are_answered_while_a_thread_works() -> None:
    model = GateModel()
    async with served(model) as app, wire(app.port) as slow:
        slow.ask("POST", "/v1/models/gate:predict", b'{"instances":[]}')
        await eventually("it runs", lambda: answered(lambda: model.inside == 1))
        assert (await app.get("/v2/health/live")).status == 200
        model.release.set()
        assert (await slow.answer()).status == 200


async def test_one_that_waits_for_a_thread_and_leaves_never_runs() -> None:
    model = GateModel()
    async with served(model, container_concurrency=2) as app, wire(app.port) as first, wire(app.port) as leaver:
        first.ask("POST", "/v1/models/gate:predict", b'{"instances":[]}')
        await eventually("it runs", lambda: answered(lambda: model.inside == 1))
        leaver.ask("POST", "/v1/models/gate:predict", b'{"instances":[]}')
        proxy = app.server.queue_proxy
        await eventually("two count", lambda: answered(lambda: proxy.stats.concurrency == 2))
        leaver.abort()
        await eventually("one counts", lambda: answered(lambda: proxy.stats.concurrency == 1))
        model.release.set()
        assert (await first.answer()).status == 200
        page = (await app.get("/metrics")).text
        assert 'request_predict_seconds_count{model_name="gate"} 1.0' in page


async def test_the_thread_of_a_client_that_left_still_keeps_an_unsafe_model_to_itself() -> None:
    model = GateModel()
    async with served(model) as app, wire(app.port) as leaver, wire(app.port) as stayer:
        call = app.server.repository.find("gate").predict
        call.mean_s = [0.0] * 64  # It has been quick so far.
        call.mean_s[(16).bit_length()] = 1.0
        leaver.ask("POST", "/v1/models/gate:predict", b'{"instances":[]}')
        await eventually("it runs", lambda: answered(lambda: model.inside == 1))
        leaver.abort()
        await eventually("nobody counts", lambda: answered(lambda: app.server.queue_proxy.stats.concurrency == 0))
        stayer.ask("POST", "/v1/models/gate:predict", json.dumps({"instances": ["x" * 100]}).encode())
        await eventually("it waits", lambda: answered(lambda: app.server.queue_proxy.stats.concurrency == 1))
        model.release.set()
        assert (await stayer.answer()).status == 200
        assert model.peak == 1


async def answered(condition: Callable[[], bool]) -> bool:
    return condition()
