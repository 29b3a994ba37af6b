"""What processes cost: memory and processor time, read from /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MIB = 2**20


def memory(pid: int) -> tuple[float, float]:
    """(resident, proportional) memory of a process in MiB. Proportional counts a page shared by n processes as 1/n."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (OSError, ProcessLookupError):
        return 0.0, 0.0
    found = {name: int(kib) / 1024 for name, kib in re.findall(r"^(Rss|Pss):\s+(\d+) kB", rollup, re.MULTILINE)}
    return found.get("Rss", 0.0), found.get("Pss", 0.0)


def cpu_s(pids: Iterable[int]) -> float:
    """Processor seconds, user and system, that these processes have used since they started."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS_PER_S
