"""Sliding averages over one-second buckets, as Knative's autoscaler keeps them (spec/knative.md 2.4).

A bucket holds the sum of everything recorded in its second. The linear average divides by the seconds that the window
has really seen, so that a young window is not diluted by zeros and a scrape that is late does not read as silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

BUCKET_S = 1
"""Width of a bucket; a constant of Knative's."""
_ALPHA_MIN = 0.2
"""Smallest decay of the exponential average; Knative's, or a long window would become a plain average."""
_WEIGHT_SUM = 0.9999
"""The weights of a window of the exponential average sum to at least this; Knative's."""
_DECIMALS = 10**6
"""A linear average is rounded to six decimals: sums of floats leave residues that would turn a ceil() up by one."""


class Aggregation(StrEnum):
    LINEAR = "linear"
    WEIGHTED_EXPONENTIAL = "weightedExponential"


class Metric(StrEnum):
    """What a revision scales on: requests inside at one moment, or requests per second."""

    CONCURRENCY = "concurrency"
    RPS = "rps"


class Window:
    """One ring of buckets. Times are seconds of one clock, and need not come in order."""

    __slots__ = ("_alpha", "_buckets", "_first", "_last", "_total", "aggregation", "length_s")

    def __init__(self, length_s: int, aggregation: Aggregation) -> None:
        assert length_s >= BUCKET_S
        self.length_s = length_s
        self.aggregation = aggregation
        self._alpha = smoothing_coefficient(length_s)
        self._buckets = [0.0] * length_s
        self._total = 0.0
        self._first = 0
        self._last: int | None = None  # Second of the newest write; None: never written.

    def record(self, now_s: float, value: float) -> None:
        """Adds `value` to the bucket of `now_s`; what is older than the window is ignored."""
        second = math.floor(now_s)
        if self._last is None or second - self._last >= self.length_s:
            self._buckets = [0.0] * self.length_s
            self._total = 0.0
            self._first = self._last = second
        elif second > self._last:
            self._clear(self._last + 1, second)
            self._last = second
        elif second <= self._last - self.length_s:
            return
        self._first = min(self._first, second)
        self._buckets[second % self.length_s] += value
        self._total += value

    def is_empty(self, now_s: float) -> bool:
        """Whether nothing was recorded for longer than the window."""
        return self._last is None or math.floor(now_s) - self._last > self.length_s

    def average(self, now_s: float) -> float:
        """The average at `now_s`; 0 where the window holds nothing."""
        if self._last is None:
            return 0.0
        silent_s = max(0, math.floor(now_s) - self._last)
        if self.aggregation is Aggregation.WEIGHTED_EXPONENTIAL:
            return self._weighted(self._last, silent_s) if silent_s <= self.length_s else 0.0
        if silent_s >= self.length_s:
            return 0.0
        # The buckets that would be overwritten between the last write and now have left the window.
        left = sum(self._buckets[second % self.length_s] for second in range(self._last + 1, self._last + silent_s + 1))
        seen_s = min(self._last - self._first + 1, self.length_s - silent_s)
        return round_half_away((self._total - left) / seen_s)

    def resized(self, length_s: int, now_s: float) -> Window:
        """A window of another length with the newest buckets that fit in it."""
        window = Window(length_s, self.aggregation)
        if self._last is not None and not self.is_empty(now_s):
            oldest = max(self._first, self._last - min(length_s, self.length_s) + 1)
            for second in range(oldest, self._last + 1):
                window.record(second, self._buckets[second % self.length_s])
        return window

    def _clear(self, start: int, end: int) -> None:
        for second in range(start, end + 1):
            self._total -= self._buckets[second % self.length_s]
            self._buckets[second % self.length_s] = 0.0

    def _weighted(self, last: int, silent_s: int) -> float:
        weight = self._alpha * (1 - self._alpha) ** silent_s
        average = 0.0
        for age in range(self.length_s - silent_s):
            average += self._buckets[(last - age) % self.length_s] * weight
            weight *= 1 - self._alpha
        return average


def smoothing_coefficient(length_s: int) -> float:
    """The weight of the newest bucket of an exponential average over this many buckets: 6 -> 0.78456, 60 -> 0.2."""
    return max(_ALPHA_MIN, 1 - math.pow(1 - _WEIGHT_SUM, 1 / length_s))


def round_half_away(value: float) -> float:
    """`value` to six decimals; halves go away from zero, as Go's math.Round does and Python's round() does not."""
    scaled = abs(value) * _DECIMALS
    return math.copysign(math.floor(scaled + 0.5), value) / _DECIMALS


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Totals of a revision, not per pod, of the metric that it scales on."""

    stable: float
    panic: float


class RevisionWindows:
    """The four windows of one revision: concurrency and requests per second, stable and panic."""

    __slots__ = ("_windows",)

    def __init__(self, stable_s: int, panic_s: int, *, aggregation: Aggregation) -> None:
        self._windows = {metric: (Window(stable_s, aggregation), Window(panic_s, aggregation)) for metric in Metric}

    def record(self, now_s: float, *, concurrency: float, rps: float) -> None:
        for metric, value in ((Metric.CONCURRENCY, concurrency), (Metric.RPS, rps)):
            for window in self._windows[metric]:
                window.record(now_s, value)

    def observe(self, metric: Metric, now_s: float) -> Observed:
        stable, panic = self._windows[metric]
        return Observed(stable=stable.average(now_s), panic=panic.average(now_s))

    def is_empty(self, now_s: float) -> bool:
        """Whether a whole stable window passed without a record."""
        return self._windows[Metric.CONCURRENCY][0].is_empty(now_s)

    def resize(self, stable_s: int, panic_s: int, *, now_s: float) -> None:
        for metric, (stable, panic) in self._windows.items():
            if (stable.length_s, panic.length_s) != (stable_s, panic_s):
                self._windows[metric] = (stable.resized(stable_s, now_s), panic.resized(panic_s, now_s))


def panic_window_s(stable_s: float, percentage: float) -> int:
    """Seconds of the panic window: a percentage of the stable one, to whole seconds, at least one bucket."""
    return max(BUCKET_S, math.floor(stable_s * percentage / 100 + 0.5))
