"""The parent of the workers: forks them, replaces the dead, passes on what one asks of all, ends with them.

Synchronous and without threads, since it forks whenever a worker dies: an event loop, a thread or a gRPC channel would be
forked along, broken. It serves nothing itself, so that a request never depends on it.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ladle.clock import Clock
from ladle.log import get_logger
from ladle.server.child import leave
from ladle.server.workers.calls import Calls
from ladle.server.workers.channel import Channel
from ladle.server.workers.fleet import Fleet
from ladle.server.workers.plan import HEALTHY_AFTER_S, decide_restart_delay_s
from ladle.server.workers.scoreboard import Scoreboard

RunWorker = Callable[[Fleet, int], int]
"""A worker's whole life, in a process of its own; returns its exit code."""
_TICK_S = 1.0
"""Longest sleep: how late a call's deadline may be noticed."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Slot:
    """A place for a worker; who has it changes."""

    index: int
    pid: int = 0
    channel: Channel | None = None
    began_s: float = 0.0
    failures: int = 0
    restart_s: float | None = 0.0
    """When to fork the next one; None while one lives."""
    snapshot: Any = field(default=None)
    """The last metrics that it sent."""


class Switchboard:
    """Keeps `workers` processes alive until SIGTERM."""

    def __init__(self, workers: int, run: RunWorker, *, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._board = Scoreboard(workers)
        self._slots = [_Slot(index) for index in range(workers)]
        self._calls = Calls(clock)
        self._stopping = False
        self._code = 0
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()

    def serve(self) -> int:
        """Returns when all workers have ended: 0 after SIGTERM, else the code of the one that could not start."""
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        gc.collect()
        gc.freeze()  # A collection in a worker would write to, and so copy, what all of them share.
        while not self._over():
            self._fork_due()
            for key, events in self._selector.select(self._sleep_s()):
                if key.fileobj is self._wake_reader:
                    self._wake_reader.recv(4096)
                else:
                    self._talk(self._slots[key.data], events)
            self._reap()
            self._calls.give_up()
            self._calls.collect(self._living())
            self._flush()
        return self._code

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._tell_all(signal.SIGTERM)

    def _tell_all(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, number)

    def _over(self) -> bool:
        return self._stopping and not any(slot.pid for slot in self._slots)

    def _living(self) -> dict[int, Channel]:
        return {slot.index: slot.channel for slot in self._slots if slot.channel is not None}

    def _sleep_s(self) -> float:
        now_s = self._clock.monotonic_s()
        waits = [slot.restart_s - now_s for slot in self._slots if slot.restart_s is not None]
        return max(0.0, min([_TICK_S, *waits])) if not self._stopping else _TICK_S

    # Forking and burying.

    def _fork_due(self) -> None:
        now_s = self._clock.monotonic_s()
        for slot in self._slots:
            if slot.restart_s is not None and slot.restart_s <= now_s and not self._stopping:
                self._fork(slot)

    def _fork(self, slot: _Slot) -> None:
        ours, theirs = socket.socketpair()
        fleet = Fleet(self._board, slot.index, theirs, unloaded=frozenset(self._calls.unloaded))
        # Blocked around the fork: a signal for the newborn worker must not run the parent's handler.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become(slot.index, fleet, previous)
        theirs.close()
        slot.pid, slot.restart_s, slot.began_s = pid, None, self._clock.monotonic_s()
        slot.channel = Channel(ours)
        self._selector.register(ours, selectors.EVENT_READ, slot.index)
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        log.info("worker started", worker=slot.index, pid=pid)

    def _become(self, index: int, fleet: Fleet, mask: set[int | signal.Signals]) -> NoReturn:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._selector.close()
        for inherited in (self._wake_reader, self._wake_writer):
            inherited.close()
        for slot in self._slots:
            if slot.channel is not None:
                slot.channel.close()
        self._board.enter(index)
        leave(lambda: self._run(fleet, index))

    def _reap(self) -> None:
        for slot in self._slots:
            if not slot.pid:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                self._bury(slot, os.waitstatus_to_exitcode(status))

    def _bury(self, slot: _Slot, code: int) -> None:
        self._board.clear(slot.index)
        if slot.channel is not None:
            self._hang_up(slot)
        pid, slot.pid = slot.pid, 0
        lived_s = self._clock.monotonic_s() - slot.began_s
        if self._stopping:
            return
        if not self._board.started:
            # As a server of one process does: whoever started it sees the failure, and the worker's own last words.
            log.error("worker could not start", worker=slot.index, pid=pid, exit_code=code)
            self._code = code if code > 0 else 1
            self._stop()
            return
        slot.failures = 1 if lived_s > HEALTHY_AFTER_S else slot.failures + 1
        delay_s = decide_restart_delay_s(slot.failures)
        slot.restart_s = self._clock.monotonic_s() + delay_s
        log.error("worker died", worker=slot.index, pid=pid, exit_code=code, restart_in_s=delay_s)

    # Talking.

    def _talk(self, slot: _Slot, events: int) -> None:
        channel = slot.channel
        if channel is None:
            return
        if events & selectors.EVENT_READ:
            for message in channel.receive():
                self._calls.handle(slot.index, message, self._living())
        if channel.broken:
            self._hang_up(slot)

    def _hang_up(self, slot: _Slot) -> None:
        assert slot.channel is not None, "asked by the callers"
        self._selector.unregister(slot.channel.socket)
        slot.channel.close()
        slot.channel = None
        self._calls.forget(slot.index, self._living())

    def _flush(self) -> None:
        for slot in self._slots:
            if slot.channel is None:
                continue
            pending = slot.channel.flush()
            if slot.channel.broken:
                self._hang_up(slot)
                continue
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if pending else 0)
            self._selector.modify(slot.channel.socket, events, slot.index)
