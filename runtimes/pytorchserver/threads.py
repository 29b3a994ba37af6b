"""How many threads PyTorch may use for one operation. (pure)

Unless told, it takes one for each core of the machine, and a container that may use one of sixty-four then spends its time
in switching between them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

VARIABLE = "OMP_NUM_THREADS"
"""What the node sets to a container's CPU limit, and what users of PyTorch know."""
_UNLIMITED = "max"


def decide_threads(flag: int | None, env: Mapping[str, str], *, cpu_max: str) -> int:
    """--nthread where it was given, else OMP_NUM_THREADS, else the CPUs that this process may use.

    `cpu_max`: the text of cgroup's cpu.max, quota and period in microseconds; "" where there is none.
    """
    if flag is not None:
        return max(1, flag)
    if env.get(VARIABLE, "").isdigit():
        return max(1, int(env[VARIABLE]))
    return max(1, min(len(os.sched_getaffinity(0)), _quota_cpus(cpu_max)))


def _quota_cpus(cpu_max: str) -> int:
    quota, _, period_us = cpu_max.strip().partition(" ")
    if not quota or quota == _UNLIMITED or not period_us:
        return os.cpu_count() or 1
    return math.ceil(int(quota) / int(period_us))
