"""Where a model's code runs: in the loop when it takes microseconds, in a thread when it does not.

A hop to a thread and back costs 60-100 µs (measured), as much as a small model itself; a slow model in the loop would
stop everything else. Nobody knows beforehand, so time decides, for each size of request apart: a thread first, the loop
once its running mean stays under a millisecond.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from ladle.clock import Clock
from ladle.server.eventually import Eventually

INLINE_S_MAX = 0.001
"""Longest mean duration in the loop: a request's worth of other work. A choice of ours."""
_SAMPLE_S_MAX = 4 * INLINE_S_MAX
"""A single outlier (the scheduler, a collection) counts at most this much: two of them do not move a quick model out."""
_WEIGHT = 0.1
"""Of the newest sample in the mean."""
_SIZE_CLASSES = 64
"""One for each power of two of a body's size."""


class Sized(Protocol):
    """What a function is given: a request, or what stands for one."""

    @property
    def size_bytes(self) -> int:
        """Of the request's body."""


Function = Callable[[Any], Any]


class Call:
    """A function of a model, ready to be called."""

    __slots__ = ("function", "is_async", "mean_s", "observe")

    def __init__(self, function: Function, observe: Callable[[float], None]) -> None:
        """`observe` hears how long each call took."""
        self.function = function
        self.observe = observe
        self.is_async = inspect.iscoroutinefunction(function)
        self.mean_s = [_SAMPLE_S_MAX] * _SIZE_CLASSES
        """How long it takes, by size of request."""


class Runner:
    """Runs the functions of one model."""

    def __init__(self, clock: Clock, *, threads: int) -> None:
        """`threads` of the model may run at once; 1 for one that is not thread-safe."""
        self._clock = clock
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._in_threads: set[Future[tuple[Any, Exception | None, float]]] = set()
        """Calls that are in a thread or wait for one. Changed by those threads too: adding and discarding are atomic."""

    def allow(self, threads: int) -> None:
        """From now on so many threads of the model may run at once."""
        if threads != self._threads:
            self.close()
            self._threads, self._pool = threads, None

    def run(self, call: Call, request: Sized) -> Eventually[Any]:
        """What the function returns; a coroutine where that takes a thread, or the function is one."""
        if call.is_async:
            return self._await(call, request)
        size_class = request.size_bytes.bit_length()
        # One thread means that the model must not run twice at once: then the loop has to wait for that thread too.
        if call.mean_s[size_class] > INLINE_S_MAX or (self._threads == 1 and self._in_threads):
            return self._in_thread(call, request, size_class)
        began_s = self._clock.monotonic_s()
        try:
            return call.function(request)
        finally:
            self._record(call, size_class, self._clock.monotonic_s() - began_s)

    def close(self) -> None:
        """Ends the threads when they are done."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _await(self, call: Call, request: Sized) -> Any:
        began_s = self._clock.monotonic_s()
        try:
            return await call.function(request)
        finally:
            call.observe(self._clock.monotonic_s() - began_s)

    async def _in_thread(self, call: Call, request: Sized, size_class: int) -> Any:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="predict")
        # The context goes along, as with asyncio.to_thread: a model's code may keep something in it.
        future = self._pool.submit(contextvars.copy_context().run, self._timed, call.function, request)
        self._in_threads.add(future)
        # At the thread's own end, not the waiting's: who stops waiting does not stop the model.
        future.add_done_callback(self._in_threads.discard)
        result, error, took_s = await asyncio.wrap_future(future)
        self._record(call, size_class, took_s)
        if error is not None:
            raise error
        return result

    def _timed(self, function: Function, request: Sized) -> tuple[Any, Exception | None, float]:
        began_s = self._clock.monotonic_s()
        try:
            return function(request), None, self._clock.monotonic_s() - began_s
        except Exception as error:  # noqa: BLE001  # Carried to the loop with its duration and raised there.
            return None, error, self._clock.monotonic_s() - began_s

    def _record(self, call: Call, size_class: int, took_s: float) -> None:
        call.observe(took_s)
        mean_s = call.mean_s[size_class]
        sample_s = took_s if took_s < _SAMPLE_S_MAX else _SAMPLE_S_MAX
        call.mean_s[size_class] = mean_s + _WEIGHT * (sample_s - mean_s)


async def in_daemon_thread(function: Callable[[], None]) -> None:
    """Runs `function` in a thread that does not keep the process from ending: a load of minutes must not outlive SIGTERM."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def body() -> None:
        error: BaseException | None = None
        try:
            function()
        except BaseException as raised:  # noqa: BLE001  # Carried to whoever waits.
            error = raised
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=contextvars.copy_context().run, args=(body,), name="load", daemon=True).start()
    await done
