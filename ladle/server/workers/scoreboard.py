"""What workers know of each other at any moment, in shared memory: state, process, last second of statistics.

One slot a worker, written by that worker alone, cleared by the parent when it is dead. Numbers are 8 bytes at multiples
of 8, which a machine writes in one piece; a reader may see a count of this second with an average of the last one, which
is as exact as seconds of several processes are that nobody aligned.
"""

from __future__ import annotations

import mmap
import os
import struct
from enum import IntEnum

from ladle.server.stats import Report

_SLOT = struct.Struct("<6d")
_STATE = struct.Struct("<d")


class WorkerState(IntEnum):
    """Of one worker, as far as it can take requests."""

    ABSENT = 0
    """Dead, or not yet born."""
    LOADING = 1
    """Its models have not been loaded yet."""
    NOT_READY = 2
    """It serves, and one of its models cannot answer."""
    READY = 3


class Scoreboard:
    """Slots for `workers` processes; made before they are forked."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, _STATE.size + workers * _SLOT.size)

    @property
    def started(self) -> bool:
        """Whether all workers were ready at the same time once."""
        return bool(_STATE.unpack_from(self._memory, 0)[0])

    def enter(self, index: int) -> None:
        """This process is worker `index` now."""
        _SLOT.pack_into(self._memory, self._place(index), WorkerState.LOADING, os.getpid(), 0, 0, 0, 0)

    def clear(self, index: int) -> None:
        """That worker is dead."""
        _SLOT.pack_into(self._memory, self._place(index), WorkerState.ABSENT, 0, 0, 0, 0, 0)

    def set_state(self, index: int, state: WorkerState) -> None:
        _STATE.pack_into(self._memory, self._place(index), state)

    def publish(self, index: int, report: Report) -> None:
        """The worker's last whole second."""
        numbers = (report.average_concurrency, report.average_proxied_concurrency)
        counts = (report.request_count, report.proxied_request_count)
        struct.pack_into("<4d", self._memory, self._place(index) + 2 * _STATE.size, *numbers, *counts)

    def total(self) -> Report:
        """The sum of what the living published."""
        slots = [self._slot(index) for index in range(self.workers)]
        return Report(
            average_concurrency=sum(slot[2] for slot in slots),
            average_proxied_concurrency=sum(slot[3] for slot in slots),
            request_count=int(sum(slot[4] for slot in slots)),
            proxied_request_count=int(sum(slot[5] for slot in slots)),
        )

    def pids(self) -> list[int]:
        """Of the living."""
        return [int(pid) for _, pid, *_ in map(self._slot, range(self.workers)) if pid]

    def ready(self) -> bool:
        """Whether requests may come: at first when all are ready, later as long as nobody who takes them is not.

        A worker that died takes none, and its replacement none until it has loaded: the others go on for it.
        """
        states = [int(self._slot(index)[0]) for index in range(self.workers)]
        if not self.started:
            if any(state != WorkerState.READY for state in states):
                return False
            _STATE.pack_into(self._memory, 0, 1)
        serving = [state for state in states if state > WorkerState.LOADING]
        return bool(serving) and all(state == WorkerState.READY for state in serving)

    def _place(self, index: int) -> int:
        return _STATE.size + index * _SLOT.size

    def _slot(self, index: int) -> tuple[float, ...]:
        return _SLOT.unpack_from(self._memory, self._place(index))
