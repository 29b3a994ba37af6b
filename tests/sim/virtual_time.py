"""An event loop whose time jumps to the next thing that happens: minutes pass in milliseconds, the same way each time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_EPOCH_S = 1_795_000_000.0
"""The Unix time at which every simulated world begins."""
_GRAIN_S = 2.0**-20
"""Time stands at multiples of this, about 1 us: what is due has passed, as with a real clock, and sums of such times are
exact. A clock that stood at the very instant of each timer would let "1 s after x" and "1 s - (now - x) left" disagree in
the last bit, and whoever waits for the rest would wait for ever: now + 1e-16 is now."""
_PASSES_MAX = 20_000
"""Turns of the loop without time passing; some hundred are usual (a control plane that starts). Far more is a busy wait."""


class Stalled(Exception):
    """Everybody waits for something that nobody will do, or somebody works without an end."""


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: whoever asks how long gets the time moved instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._passes = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stalled("no timer is left")
        if timeout > 0:
            self.now_s = math.ceil((self.now_s + timeout) / _GRAIN_S) * _GRAIN_S
            self._passes = 0
            return []
        self._passes += 1
        if self._passes > _PASSES_MAX:
            self._passes = 0
            raise Stalled(f"{_PASSES_MAX} turns of the loop at {self.now_s:.6f} s: somebody waits for no time at all")
        return []


class _Timer(asyncio.TimerHandle):
    """Of two timers for the same time the one that was set first comes first, whatever else is or was in the loop's heap."""

    __slots__ = ("number",)
    number: int

    def __lt__(self, other: asyncio.TimerHandle) -> bool:
        assert isinstance(other, _Timer)
        return (self._when, self.number) < (other._when, other.number)  # type: ignore[attr-defined]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Single-threaded: what would go to a thread runs at once, since a thread's end has no place in virtual time."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        self._timers = itertools.count()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> _Timer:  # type: ignore[override]
        timer = _Timer(when, callback, args, self, context)
        timer.number = next(self._timers)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class VirtualClock:
    """controller.base.clock.Clock of the running loop."""

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_s(self) -> float:
        return _EPOCH_S + self.monotonic_s()


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`, run in virtual time from second 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
