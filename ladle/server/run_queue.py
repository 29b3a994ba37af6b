"""One request at a time on the loop, with a look at the sockets between two.

A model that answers in microseconds runs in the loop itself. Were each request answered where it is read, those behind it
would wait in the kernel, uncounted, and a server with a hundred waiting clients would report a concurrency of one: the
autoscaler would see nothing. So reading comes first and work is taken from this queue, one piece for each turn of the
loop. Costs about 5 µs a request (measured 2026-11-21).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Work(Protocol):
    """A piece of work; `run` must not raise."""

    def run(self) -> None: ...


class RunQueue:
    """First come, first served. Bounded by who puts in: the breaker, or the number of connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[Work] = deque()

    def put(self, work: Work) -> None:
        self._ready.append(work)
        if len(self._ready) == 1:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        # Still at the head while it runs: work that is put in meanwhile must not schedule a second turn.
        try:
            self._ready[0].run()
        finally:
            self._ready.popleft()
            if self._ready:
                self._loop.call_soon(self._turn)
