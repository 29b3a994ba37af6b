"""The limits of one request in a pod: the whole of it, the start of its answer, and silence in the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from controller.base.clock import Clock
from onebox.knative.activator.targets import RevisionLimits


class RequestTimeout(Exception):
    """One of the revision's limits has passed."""


class Watched(Protocol):
    """What of an answer the limits depend on."""

    @property
    def started(self) -> bool: ...

    @property
    def last_written_s(self) -> float | None: ...


class Deadlines:
    """Calls `expire` once, as soon as one of the limits has passed; `stop` it when the request is over."""

    def __init__(
        self, watched: Watched, expire: Callable[[Exception], None], *, limits: RevisionLimits, clock: Clock
    ) -> None:
        self._watched = watched
        self._expire_with = expire
        self._idle_s = limits.idle_s
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timers = [self._loop.call_later(limits.timeout_s, self._expire)]
        if limits.response_start_s:
            self._later(limits.response_start_s, self._check_started)
        if limits.idle_s:
            self._later(limits.idle_s, self._check_idle)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _later(self, delay_s: float, check: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay_s, check))

    def _check_started(self) -> None:
        if not self._watched.started:
            self._expire()

    def _check_idle(self) -> None:
        written_s = self._watched.last_written_s
        rest_s = 0.0 if written_s is None else written_s + self._idle_s - self._clock.monotonic_s()
        if rest_s <= 0:
            self._expire()
        else:
            self._later(rest_s, self._check_idle)

    def _expire(self) -> None:
        self.stop()
        self._expire_with(RequestTimeout())
