"""How many workers, what each may take, and when one that died comes back (pure)."""

from __future__ import annotations

RESTART_DELAY_S_MAX = 10.0
"""Longest wait before a worker is started again. A guess; the kubelet goes up to 300 s, but has nobody who still serves."""
_RESTART_DELAY_S = 0.1
"""The second start waits this long, the first not at all; doubled each time. A guess."""
HEALTHY_AFTER_S = 60.0
"""A worker that lived this long has no failures any more. The kubelet takes 10 minutes. A guess."""


def decide_worker_count(wanted: int, container_concurrency: int) -> int:
    """At most one worker for each request that may run at once: one with a share of nothing would only refuse."""
    return min(wanted, container_concurrency) if container_concurrency else wanted


def decide_share(capacity: int, workers: int, index: int) -> int:
    """What worker `index` takes of a limit: the shares differ by at most one and add up to `capacity`; 0 is no limit."""
    return capacity // workers + (index < capacity % workers)


def decide_restart_delay_s(failures: int) -> float:
    """How long to wait after the worker's `failures`-th death in a row, from 1 on."""
    if failures <= 1:
        return 0.0
    return float(min(RESTART_DELAY_S_MAX, _RESTART_DELAY_S * 2 ** min(failures - 2, 30)))
