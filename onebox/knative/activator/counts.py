"""What the activator counts, by revision, under Knative's names (knative.dev, Serving metrics, 1.18).

Two additions and a hook a request, half a microsecond; lines are made when somebody asks for them. What was counted of
a revision lives on its target, and goes with it.
"""

from __future__ import annotations

from controller.base.exposition import Family, Histogram

LATENCY_BOUNDS_MS = (
    *(1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0),
    *(1000.0, 2500.0, 5000.0, 10_000.0, 30_000.0, 60_000.0, 300_000.0),
)
"""Finer than Knative's around 100 ms, where a cold start should be; its longest request takes 300 s by default."""
COLD_START_BOUNDS_S = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_CODES_MAX = 32
"""Codes of one revision that are told apart; servers choose codes."""


class RequestFamilies:
    """The activator's families, to be filled."""

    def __init__(self) -> None:
        self.concurrency = Family("activator_request_concurrency", "gauge", "Requests that the activator has now")
        self.queued = Family("activator_request_queued", "gauge", "Requests that wait in the activator for a pod")
        self.count = Family("activator_request_count", "counter", "Requests that came through the activator")
        self.latencies = Family(
            "activator_request_latencies", "histogram", "Milliseconds from a request's head to the end of its answer"
        )
        self.cold = Family(
            "activator_cold_start_seconds",
            "histogram",
            "From the first request held for a revision without pods to the start of its answer",
        )
        self.cold_failed = Family(
            "activator_cold_start_failures", "counter", "First held requests that no pod answered below 500"
        )

    def all(self) -> tuple[Family, ...]:
        return self.concurrency, self.queued, self.count, self.latencies, self.cold, self.cold_failed


class RequestCounts:
    """One revision's requests that came through the activator."""

    __slots__ = ("_codes", "_latencies_ms", "cold_starts_failed", "cold_starts_s")

    def __init__(self) -> None:
        self._codes: dict[int, int] = {}
        self._latencies_ms = Histogram(LATENCY_BOUNDS_MS)
        self.cold_starts_s = Histogram(COLD_START_BOUNDS_S)
        self.cold_starts_failed = 0

    def answered(self, status: int, took_s: float) -> None:
        """Counts a request; `status` 0: its client went away before an answer."""
        if status not in self._codes and len(self._codes) >= _CODES_MAX:
            status = status // 100 * 100
        self._codes[status] = self._codes.get(status, 0) + 1
        self._latencies_ms.observe(took_s * 1e3)

    def started_cold(self, status: int, took_s: float) -> None:
        """Counts the first request that was held while there was no pod; `took_s` until its answer began."""
        if 0 < status < 500:
            self.cold_starts_s.observe(took_s)
        else:
            self.cold_starts_failed += 1

    def add_to(self, families: RequestFamilies, labels: str) -> None:
        for code, count in self._codes.items():
            families.count.add(f'{labels},response_code="{code}",response_code_class="{code // 100}xx"', count)
        if self._codes:
            self._latencies_ms.add_to(families.latencies, labels)
        if self.cold_starts_s.count or self.cold_starts_failed:
            self.cold_starts_s.add_to(families.cold, labels)
            families.cold_failed.add(labels, self.cold_starts_failed)
