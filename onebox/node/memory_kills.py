"""Whether a process died because the machine had no memory left.

The kernel kills with SIGKILL, as anybody may, and its log is for root alone; but it counts such kills for everybody to read. A
SIGKILL within seconds of a count that rose is taken for one of them: on one machine there is seldom another reason.
"""

from __future__ import annotations

from pathlib import Path

from controller.base.clock import Clock

RECENT_S = 10.0
"""How long a rise explains a kill, and how often somebody has to look so that no older one does. A guess: a machine without
memory kills several processes in a row, and ours may be told late."""
_COUNTER = b"oom_kill "


class MemoryKills:
    """The machine's count of processes that the kernel has killed for want of memory."""

    def __init__(self, clock: Clock, statistics: Path = Path("/proc/vmstat")) -> None:
        self._clock = clock
        self._statistics = statistics
        self._count = self._read()
        self._rose_s: float | None = None

    def recent(self) -> bool:
        """Whether the kernel has killed for want of memory since the last look, or in the last RECENT_S."""
        count, now_s = self._read(), self._clock.monotonic_s()
        if count > self._count:
            self._rose_s = now_s
        self._count = count
        return self._rose_s is not None and now_s - self._rose_s <= RECENT_S

    def _read(self) -> int:
        lines = self._statistics.read_bytes().splitlines()
        # Linux before 4.13 does not count them: then nothing is ever said to be one.
        return next((int(line.removeprefix(_COUNTER)) for line in lines if line.startswith(_COUNTER)), 0)
