"""Collects what comes within a moment into one batch, and gives everybody their own part of the answer.

KServe's rules: a batch goes off when it holds `max_size` rows or its first request has waited `max_latency_s`. Ours beyond
them: one that stops waiting is taken out of a batch that has not gone yet and harms no other; only what has the same key is
put together; and where nobody chose a latency, nobody waits for company: a batch goes at once when none of its key is being
answered, and what comes meanwhile is the next batch. Its size follows the load by itself then.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ladle.clock import Clock

Item = TypeVar("Item")
Part = TypeVar("Part")

MAX_SIZE = 32
"""Rows; KServe's maxBatchSize."""
MAX_LATENCY_S = 5.0
"""KServe's maxLatency, 5000 ms."""
_MS_PER_S = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """When a batch goes off."""

    max_size: int = MAX_SIZE
    """Rows that fill a batch; one request may hold more and goes at once then. At least 1."""
    max_latency_s: float = MAX_LATENCY_S
    """How long the first request of a batch waits for others at most, in seconds."""
    waits_when_idle: bool = False
    """Whether a batch waits for `max_latency_s` though nothing is being answered, as KServe's does."""

    @classmethod
    def of_kserve(cls, *, max_size: int, max_latency_ms: float) -> BatchSettings:
        """The settings of KServe's agent. Zero is the default there; as latency it means here that nobody waits idly."""
        return cls(
            max_size=max_size if max_size > 0 else MAX_SIZE,
            max_latency_s=max_latency_ms / _MS_PER_S if max_latency_ms > 0 else MAX_LATENCY_S,
            waits_when_idle=max_latency_ms > 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[Part]):
    """One request's share of a batch."""

    part: Part
    batch_id: str
    waited_s: float


@dataclass(slots=True)
class _Batch(Generic[Item, Part]):
    opened_s: float
    timer: asyncio.Handle
    task: asyncio.Task[None] | None = None
    """Once it has gone."""
    rows: int = 0
    items: dict[asyncio.Future[Outcome[Part]], tuple[Item, int]] = field(default_factory=dict)


class BatchQueue(Generic[Item, Part]):
    """One open batch for each key. `run` answers the items of a batch in order, an error in the place of a part."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Part | Exception]]],
        *,
        settings: BatchSettings,
        tasks: asyncio.TaskGroup,
        clock: Clock,
    ) -> None:
        self._run = run
        self._settings = settings
        self._tasks = tasks
        self._clock = clock
        self._open: dict[Hashable, _Batch[Item, Part]] = {}
        self._running: Counter[Hashable] = Counter()
        """How many batches of each key are being answered."""

    async def submit(self, key: Hashable, item: Item, rows: int) -> Outcome[Part]:
        """The item's own part, once its batch has been answered; what `run` put in its place is raised."""
        loop = asyncio.get_running_loop()
        batch = self._open.get(key)
        if batch is None:
            batch = self._open[key] = _Batch(self._clock.monotonic_s(), self._when_to_send(key))
        waiting: asyncio.Future[Outcome[Part]] = loop.create_future()
        batch.items[waiting] = (item, rows)
        batch.rows += rows
        if batch.rows >= self._settings.max_size:
            self._send(key)
        try:
            return await waiting
        finally:
            if self._open.get(key) is batch and waiting in batch.items:
                self._take_out(key, batch, waiting)
            elif batch.task is not None and all(other.done() for other in batch.items):
                batch.task.cancel()  # Nobody waits for it any more; harmless where it has ended.

    def _when_to_send(self, key: Hashable) -> asyncio.Handle:
        loop = asyncio.get_running_loop()
        if self._settings.waits_when_idle or self._running[key]:
            return loop.call_later(self._settings.max_latency_s, self._send, key)
        return loop.call_soon(self._send, key)  # After what else this turn of the loop has read.

    def _take_out(self, key: Hashable, batch: _Batch[Item, Part], waiting: asyncio.Future[Outcome[Part]]) -> None:
        _, rows = batch.items.pop(waiting)
        batch.rows -= rows
        if not batch.items:
            batch.timer.cancel()
            del self._open[key]

    def _send(self, key: Hashable) -> None:
        batch = self._open.pop(key)
        batch.timer.cancel()
        self._running[key] += 1
        batch.task = self._tasks.create_task(self._answer(batch))
        batch.task.add_done_callback(lambda _: self._answered(key))

    def _answered(self, key: Hashable) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]  # Keys come from requests: they must not pile up.
            if key in self._open and not self._settings.waits_when_idle:
                self._send(key)

    async def _answer(self, batch: _Batch[Item, Part]) -> None:
        waited_s, batch_id = self._clock.monotonic_s() - batch.opened_s, str(uuid.uuid4())
        try:
            parts = await self._run([item for item, _ in batch.items.values()])
            assert len(parts) == len(batch.items), "one part for each item"
        except Exception as error:  # noqa: BLE001  # The top of a batch: all who wait have to hear of it.
            parts = [error] * len(batch.items)
        for waiting, part in zip(batch.items, parts, strict=True):
            if waiting.done():
                continue  # It stopped waiting after the batch had gone.
            if isinstance(part, Exception):
                waiting.set_exception(part)
            else:
                waiting.set_result(Outcome(part=part, batch_id=batch_id, waited_s=waited_s))
