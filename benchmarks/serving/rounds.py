"""Interleaved rounds: every server gets a slice of each round, so that a busy machine disturbs all alike.

Ratios are taken within a round and the median of them is printed; so are requests/s and percentiles. Processor time of the
server for each request is the figure that neighbours disturb least: it tells what the server costs, not who else was there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import machine
from benchmarks.serving import h2load
from benchmarks.serving.cases import Case
from benchmarks.serving.h2load import Figures

_US_PER_S = 1e6
_SLICE_S_MAX = 8.0
"""Of servers that are too slow for the usual slice. A guess."""
_SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A server as it is asked in one comparison."""

    name: str
    pid: int
    port: int
    case: Case


@dataclass(frozen=True, slots=True)
class Slice:
    """One contender in one round."""

    figures: Figures
    cpu_us: float
    """Of the server's processes, for each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long it is measured."""

    rounds: int
    slice_s: float


FULL = Effort(rounds=5, slice_s=0.5)
QUICK = Effort(rounds=1, slice_s=0.3)


def measure(contenders: Sequence[Contender], *, connections: int, effort: Effort) -> dict[str, list[Slice]]:
    """By contender, a slice for each round."""
    found: dict[str, list[Slice]] = {contender.name: [] for contender in contenders}
    for number in range(effort.rounds):
        # Whoever comes first would always meet the same neighbour.
        turned = number % len(contenders)
        for contender in (*contenders[turned:], *contenders[:turned]):
            found[contender.name].append(_slice(contender, connections, effort.slice_s))
    return found


def _slice(contender: Contender, connections: int, slice_s: float) -> Slice:
    slice_s = max(slice_s, min(_SLICE_S_MAX, 2 * connections * _settled(contender)))
    used_s = machine.cpu_s([contender.pid])
    figures = h2load.run(contender.case, contender.port, connections=connections, duration_s=slice_s)
    used_s = machine.cpu_s([contender.pid]) - used_s
    # The warm-up's requests are in the processor time and not in the log; they take their share of it.
    counted = figures.requests_per_s * (slice_s + h2load.WARM_UP_S)
    return Slice(figures, used_s / counted * _US_PER_S if counted else float("inf"))


def _settled(contender: Contender) -> float:
    """Waits until the server is done with what the load before left behind; how long one request takes then, in seconds.

    One that takes 50 ms needs seconds to answer each of 64 connections once, also when those are gone.
    """
    deadline_s = time.monotonic() + _SETTLE_S
    while True:
        began_s = time.perf_counter()
        refusal = contender.case.refusal(contender.port)
        if not refusal:
            return time.perf_counter() - began_s
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{contender.name} does not answer {contender.case.name} any more: {refusal}")


def ratio(of: Sequence[Slice], to: Sequence[Slice]) -> str:
    """How many times the second's requests/s the first has, and how many the second's processor time would allow it.

    The first is the median of the rounds' ratios, the second the ratio of the medians. They agree on a quiet machine; on a
    busy one the second is the one to read.
    """
    pairs = [(a.figures.requests_per_s, b.figures.requests_per_s) for a, b in zip(of, to, strict=True)]
    measured = [a / b for a, b in pairs if b]
    if not measured:
        return "no ratio: nothing was answered"
    ours_us, theirs_us = (median(one.cpu_us for one in slices) for slices in (of, to))
    return f"{median(measured):.2f} x, by cpu {theirs_us / ours_us if ours_us else float('nan'):.2f} x"


def row(name: str, slices: Sequence[Slice]) -> str:
    """Medians, aligned."""
    figures = [one.figures for one in slices]
    failures = sum(one.failures for one in figures)
    text = (
        f"  {name:<22}{median(f.requests_per_s for f in figures):>8.0f}/s"
        f"  p50 {median(f.p50_ms for f in figures):>7.2f}  p99 {median(f.p99_ms for f in figures):>7.2f} ms"
        f"  {median(one.cpu_us for one in slices):>7.0f} us cpu"
    )
    return text + (f"  {failures} FAILURES" if failures else "")
