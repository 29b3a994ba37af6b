"""Open-loop load: requests are sent when they are due, whatever became of those before, and every failure is written down.

Each source has its own rate and its own bounded number of lanes (requests in flight). A request that finds no lane waits in a
bounded backlog; where that is full as well, it is a failure of its own kind: the machine could not carry the load.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

BACKLOG_MAX = 2000
"""Requests of one source that wait for a lane: ten seconds' worth at 200/s."""
IDLE_LOOK_S = 0.05
"""How often a source without a rate looks whether it has one."""
NOT_SENT = "not sent: the backlog is full"


class Caller(Protocol):
    """One kind of request to one service."""

    async def open(self, stack: AsyncExitStack, lanes: int) -> Callable[[], Awaitable[str]]:
        """A function that sends one request; it returns what answered, or raises. `stack` closes what it opened."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Requests of one kind, `rate` of them a second, at most `lanes` at once."""

    name: str
    caller: Caller
    rate: float
    lanes: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that was not answered as it should be. Times are monotonic seconds."""

    source: str
    sent_s: float
    ended_s: float
    why: str
    phases: tuple[str, str]
    """What was going on when it was sent, and when it failed."""

    def told(self, since_s: float) -> str:
        sent, lasted = self.sent_s - since_s, self.ended_s - self.sent_s
        return f"{sent:8.3f} s {self.source:<12} {lasted:7.3f} s {' → '.join(dict.fromkeys(self.phases))}: {self.why}"


@dataclass(slots=True)
class Load:
    """What was sent so far. `rates` and `phase` may be changed while it runs; the rest is read only."""

    sources: Sequence[Source]
    rates: dict[str, float] = field(default_factory=dict)
    phase: str = "start"
    started_s: float = field(default_factory=time.monotonic)
    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Answered requests by source, phase in which they were sent, and what answered."""
    slowest_s: dict[str, float] = field(default_factory=dict)
    """By phase and source, the longest time from being due to the answer."""
    failures: list[Failure] = field(default_factory=list)

    def answered(self, source: str | None = None, phase: str | None = None) -> int:
        """How many requests were answered: of one source, sent in one phase, or all."""
        return sum(
            count
            for (one, during, _), count in list(self.answers.items())
            if source in (None, one) and phase in (None, during)
        )

    def answers_of(self, source: str, phase: str) -> Counter[str]:
        """What answered the requests of a source that were sent in a phase."""
        found: Counter[str] = Counter()
        for (one, during, what), count in list(self.answers.items()):
            if (one, during) == (source, phase):
                found[what] += count
        return found

    def told(self) -> str:
        """The result as lines of text."""
        lasted_s = time.monotonic() - self.started_s
        total = self.answered()
        lines = [
            f"{total} answered in {lasted_s:.0f} s ({total / lasted_s:.0f}/s), {len(self.failures)} failed",
            *(
                f"  {source.name:<12} {self.answered(source.name):6d}  slowest "
                + max((f"{slow:6.2f} s in {key}" for key, slow in self._slowest_of(source.name)), default="-")
                for source in self.sources
            ),
            *(failure.told(self.started_s) for failure in self.failures[:100]),
        ]
        return "\n".join(lines)

    def _slowest_of(self, source: str) -> Iterator[tuple[str, float]]:
        for key, slow_s in list(self.slowest_s.items()):
            name, _, phase = key.partition(" ")
            if name == source:
                yield phase, slow_s


@contextmanager
def open_loop(sources: Sequence[Source]) -> Iterator[Load]:
    """Sends until the block ends, then waits for the answers that are still due."""
    load = Load(sources, {source.name: source.rate for source in sources})
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            loop.run_until_complete(_send_all(load, stop))
        except BaseException as error:
            errors.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=work, name="load")
    thread.start()
    try:
        yield load
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if errors:
        raise errors[0]


async def _send_all(load: Load, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        calls = {source.name: await source.caller.open(stack, source.lanes) for source in load.sources}
        async with asyncio.TaskGroup() as group:
            for source in load.sources:
                backlog: asyncio.Queue[float | None] = asyncio.Queue(BACKLOG_MAX)
                group.create_task(_pace(load, source, backlog, stop))
                for _ in range(source.lanes):
                    group.create_task(_carry(load, source, backlog, calls[source.name]))


async def _pace(load: Load, source: Source, backlog: asyncio.Queue[float | None], stop: asyncio.Event) -> None:
    due_s = time.monotonic()
    while not stop.is_set():
        rate, now_s = load.rates[source.name], time.monotonic()
        if rate == 0:
            due_s = now_s + IDLE_LOOK_S
        elif due_s <= now_s:
            try:
                backlog.put_nowait(due_s)
            except asyncio.QueueFull:
                load.failures.append(_failure(load, source, due_s, NOT_SENT, load.phase))
            due_s += 1 / rate
            continue
        await _until(stop, due_s - now_s)
    for _ in range(source.lanes):
        await backlog.put(None)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def _carry(
    load: Load, source: Source, backlog: asyncio.Queue[float | None], call: Callable[[], Awaitable[str]]
) -> None:
    while (due_s := await backlog.get()) is not None:
        phase, sent_s = load.phase, time.monotonic()
        try:
            answer = await call()
        except Exception as error:  # Whatever it is, the request has failed, and the test tells why.
            load.failures.append(_failure(load, source, sent_s, _why(error), phase))
            continue
        load.answers[source.name, phase, answer] += 1
        key = f"{source.name} {phase}"
        load.slowest_s[key] = max(load.slowest_s.get(key, 0.0), time.monotonic() - due_s)


def _failure(load: Load, source: Source, sent_s: float, why: str, phase: str) -> Failure:
    return Failure(source=source.name, sent_s=sent_s, ended_s=time.monotonic(), why=why, phases=(phase, load.phase))


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
