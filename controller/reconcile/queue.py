"""Which objects to look at, and when: a queue of keys that neither forgets one nor holds one twice.

A key that is added while it is being worked on comes again afterwards, so one key has one worker and no change is missed.
Failures bring a key back after a delay that doubles, with jitter.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from itertools import count

from controller.base.clock import Clock
from controller.reconcile.plan import Key

DEPTH_MAX = 1_000_000
"""Distinct keys held. An API server of this size does not exist, so more is a bug that must be loud."""
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 60.0
"""Delay after the first failure, and where doubling ends. Kubernetes' controllers use 5 ms and 1000 s: the first is too
eager when an API server restarts, the second keeps people waiting for what they have just mended. A guess."""


class WorkQueue:
    """Keys to work on. `take`, then one of `done` and `retry`; what is due later waits inside."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._ready: deque[Key] = deque()
        self._waiting: set[Key] = set()
        """Keys in `_ready`, and those to come again once their worker is done."""
        self._working: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._later: list[tuple[float, int, Key]] = []
        self._due_s: dict[Key, float] = {}
        """When a delayed key is due; entries of `_later` that disagree are void."""
        self._order = count()
        self._waiters: deque[asyncio.Future[None]] = deque()
        """Workers without a key, the cancelled among them. One is woken for each key: all would find another was faster."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._due_s)

    @property
    def waiting(self) -> int:
        """Keys that are due, and wait for a worker."""
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Puts `key` in line, unless it stands there already."""
        if key in self._waiting:
            return
        if len(self._waiting) >= DEPTH_MAX:
            raise OverflowError(f"work queue holds {DEPTH_MAX} keys")
        self._waiting.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._wake_one()

    def add_after(self, key: Key, delay_s: float) -> None:
        """Puts `key` in line after `delay_s`, or sooner where it was due sooner."""
        if delay_s <= 0:
            self.add(key)
            return
        due_s = self._clock.monotonic_s() + delay_s
        if due_s < self._due_s.get(key, float("inf")):
            self._due_s[key] = due_s
            heapq.heappush(self._later, (due_s, next(self._order), key))
            if self._waiters:
                self._set_timer()

    async def take(self) -> Key:
        """The next key, as soon as there is one; the caller works on it until `done` or `retry`."""
        while (key := self.take_ready()) is None:
            self._set_timer()
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():
                    self._wake_one()  # It was this one's turn; the key must not wait for the next change.
                raise
        return key

    def take_ready(self) -> Key | None:
        """The next key if one is due now."""
        self._release_due()
        if not self._ready:
            return None
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def next_due_s(self) -> float | None:
        """When the earliest delayed key is due, on the clock's monotonic scale."""
        while self._later and self._due_s.get(self._later[0][2]) != self._later[0][0]:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def done(self, key: Key) -> None:
        """Ends the work on `key`, successfully."""
        self._failures.pop(key, None)
        self._release(key)

    def retry(self, key: Key) -> float:
        """Ends the work on `key`, which comes again after the delay in seconds that is returned."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # The exponent is bounded before the power is taken: 2.0 ** 1024 overflows.
        delay_s = min(BACKOFF_MIN_S * 2.0 ** min(failures, 32), BACKOFF_MAX_S) * self._rng.uniform(0.5, 1.0)
        self._release(key)
        self.add_after(key, delay_s)
        return delay_s

    def _release(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._waiting:
            self._ready.append(key)
            self._wake_one()

    def _release_due(self) -> None:
        now_s = self._clock.monotonic_s()
        while (due_s := self.next_due_s()) is not None and due_s <= now_s:
            _, _, key = heapq.heappop(self._later)
            del self._due_s[key]
            self.add(key)

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_timer(self) -> None:
        """Sees to it that somebody looks when the earliest delayed key is due."""
        due_s = self.next_due_s()
        if due_s is None or (self._timer is not None and self._timer_due_s <= due_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due_s = due_s
        delay_s = max(0.0, due_s - self._clock.monotonic_s())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._release_due()
        if self._waiters:
            self._set_timer()
