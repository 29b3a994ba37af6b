"""Collects what comes within a moment into one batch, and gives everybody their own part of the answer.

KServe's rules: a batch goes off when it holds `max_size` rows or its first request has waited `max_latency_s`. Ours beyond
them: one that stops waiting is taken out of a batch that has not gone yet and harms no other; only what has the same key is
put together.
"""

from __future__ import annotations

import asyncio
import uuid
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """When a batch goes off."""

    max_size: int = MAX_SIZE
    """Rows that fill a batch; one request may hold more and goes at once then. At least 1."""
    max_latency_s: float = MAX_LATENCY_S
    """How long the first request of a batch waits for others, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[Part]):
    """One request's share of a batch."""

    part: Part
    batch_id: str
    waited_s: float


@dataclass(slots=True)
class _Batch(Generic[Item, Part]):
    opened_s: float
    timer: asyncio.TimerHandle
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

    async def submit(self, key: Hashable, item: Item, rows: int) -> Outcome[Part]:
        """The item's own part, once its batch has been answered; what `run` put in its place is raised."""
        loop = asyncio.get_running_loop()
        batch = self._open.get(key)
        if batch is None:
            timer = loop.call_later(self._settings.max_latency_s, self._send, key)
            batch = self._open[key] = _Batch(self._clock.monotonic_s(), timer)
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

    def _take_out(self, key: Hashable, batch: _Batch[Item, Part], waiting: asyncio.Future[Outcome[Part]]) -> None:
        _, rows = batch.items.pop(waiting)
        batch.rows -= rows
        if not batch.items:
            batch.timer.cancel()
            del self._open[key]

    def _send(self, key: Hashable) -> None:
        batch = self._open.pop(key)
        batch.timer.cancel()
        self._tasks.create_task(self._answer(batch))

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
