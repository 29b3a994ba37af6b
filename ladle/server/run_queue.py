"""Work on the loop in short turns, with a look at the sockets between two.

A model that answers in microseconds runs in the loop itself. Were each request answered where it is read, those behind it
would wait in the kernel, uncounted, and a server with a hundred waiting clients would report a concurrency of one: the
autoscaler would see nothing. So reading comes first, and a part of what waits is taken from this queue before the sockets
are read again. What arrived meanwhile has waited unread for half a turn on average, and is counted as if from there on.

A single client has nobody behind it. Its requests run where they are read, which saves an iteration of the loop: 17 µs of
240 (measured 2026-11-21).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from ladle.clock import Clock

TURN_SHARE = 4
"""A turn takes one in so many of those that wait, so that not more than that share is ever unread. A turn for each piece
costs 20 µs a piece, of 240 for a small model: an iteration of the loop, and caches that are cold for every step of a
request. With a quarter 12 of them are gone (measured 2026-11-21)."""
ALONE_GAP_S = 20e-6
"""What is read so soon after a piece that ran at once came while it ran: a client that got its answer needs longer for the
next request (30 µs on loopback, measured 2026-11-21). Of two clients it says most of the time that they are two; of more
than two the sockets say so themselves, however slow the machine is."""
CROWDED_S = 0.01
"""How long nothing runs at once any more after two were seen to wait. A guess: many requests' worth."""
TURN_S_MIN = 0.0002
"""A turn that is shorter goes on: what is unread for so short does not matter."""
TURN_S_MAX = 0.002
"""Longest turn, but for the piece that is under way then: what probes and new connections wait at most."""


class Work(Protocol):
    """A piece of work; `run` must not raise."""

    def run(self) -> None: ...


class RunQueue:
    """First come, first served. Bounded by who puts in: the breaker, or the number of connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._ready: deque[Work] = deque()
        self._running_alone = False
        self._ran_alone_s = 0.0
        """When the last piece ended that ran where it was put in."""
        self._same_look = False
        """Whether the loop has not looked at the sockets since: what is read then was waiting beside that piece."""
        self._crowded_until_s = 0.0
        self.unread_s = 0.0
        """How long what is read now has waited in the kernel, on average: half of the turn that has just ended. 0 where
        that turn left nothing to do, since what is read then may have come at any time after it."""

    def put(self, work: Work, read_s: float) -> None:
        """Runs it in a turn to come; at once where nobody else seems to wait. `read_s` is when it was read."""
        ready = self._ready
        if ready or self._same_look or read_s - self._ran_alone_s <= ALONE_GAP_S:
            self._crowded_until_s = read_s + CROWDED_S
        elif read_s > self._crowded_until_s and not self._running_alone:
            self._run_alone(work)
            return
        ready.append(work)
        if len(ready) == 1:
            self._loop.call_soon(self._turn)

    def _run_alone(self, work: Work) -> None:
        self._running_alone = True
        try:
            work.run()
        finally:
            self._running_alone = False
            self._ran_alone_s = self._clock.monotonic_s()
            self._same_look = True
            # Called after all that this look at the sockets has found, and before the next one.
            self._loop.call_soon(self._looks_again)

    def _looks_again(self) -> None:
        self._same_look = False

    def _turn(self) -> None:
        ready, now_s, took_s = self._ready, self._clock.monotonic_s, 0.0
        began_s, kept = now_s(), len(ready) - len(ready) // TURN_SHARE
        self.unread_s = 0.0
        try:
            while True:
                # Still at the head while it runs: work that is put in meanwhile must not schedule a second turn.
                ready[0].run()
                took_s, left = now_s() - began_s, len(ready) - 1
                if not left or took_s > (TURN_S_MAX if left > kept else TURN_S_MIN):
                    break
                ready.popleft()
        finally:
            ready.popleft()
            if ready:
                self.unread_s = took_s / 2
                self._loop.call_soon(self._turn)
