"""A run in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebox.knative.simulation.plant import Fate
from onebox.knative.simulation.simulator import Run, Workload

_MS = 1e3
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Latencies and waits are those of served requests, in milliseconds; None where none was served."""

    requests: int
    served: int
    rejected: int
    """503: a queue was full."""
    timed_out: int
    cold: int
    """Requests that came while no pod was ready."""
    cold_starts: int
    """Times that the revision was woken from zero."""
    latency_p50_ms: float | None
    latency_p90_ms: float | None
    latency_p99_ms: float | None
    latency_max_ms: float | None
    wait_p50_ms: float | None
    wait_p99_ms: float | None
    inside_max: int
    held_max: int
    """Most requests that the activator held at the end of a second."""
    pods_mean: float
    pods_max: int
    replica_hours: float
    at_zero_share: float
    """Share of the trace without any pod, [0, 1]."""
    panic_share: float
    busy_share: float | None
    """Share of the pods' time in which they worked, [0, 1]; None where there was no pod."""


def summarize(run: Run, load: Workload, *, parallel: int) -> Summary:
    plant, series = run.plant, run.series
    fates = np.frombuffer(bytes(plant.fates), dtype=np.uint8)
    served = fates == Fate.SERVED
    latencies = np.asarray(plant.latencies)[served]
    waits = latencies - load.services[served]
    pods = np.asarray(series.pods)
    work_s = float(load.services[served].sum())
    return Summary(
        requests=len(fates),
        served=int(served.sum()),
        rejected=int((fates == Fate.REJECTED).sum()),
        timed_out=int((fates == Fate.TIMED_OUT).sum()),
        cold=sum(plant.cold),
        cold_starts=_cold_starts(plant.cold),
        latency_p50_ms=_percentile(latencies, 50),
        latency_p90_ms=_percentile(latencies, 90),
        latency_p99_ms=_percentile(latencies, 99),
        latency_max_ms=_percentile(latencies, 100),
        wait_p50_ms=_percentile(waits, 50),
        wait_p99_ms=_percentile(waits, 99),
        inside_max=max(series.inside, default=0),
        held_max=max(series.held, default=0),
        pods_mean=float(pods.mean()) if len(pods) else 0.0,
        pods_max=int(pods.max(initial=0)),
        replica_hours=run.pod_s / _HOUR_S,
        at_zero_share=float((pods == 0).mean()) if len(pods) else 0.0,
        panic_share=float(np.mean(series.panic)) if series.panic else 0.0,
        busy_share=min(1.0, work_s / (run.pod_s * parallel)) if run.pod_s else None,
    )


def _cold_starts(cold: bytearray) -> int:
    """Runs of requests in a row that found no pod."""
    flags = np.frombuffer(bytes(cold), dtype=np.uint8).astype(np.int8)
    return int((np.diff(flags, prepend=0) == 1).sum())


def _percentile(values: NDArray[np.float64], percent: float) -> float | None:
    return float(np.percentile(values, percent)) * _MS if len(values) else None
