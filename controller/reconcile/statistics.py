"""What the controllers of this process did, under the names of Knative's controllers: reconciles, their times, queues."""

from __future__ import annotations

from collections.abc import Iterable

from controller.base.exposition import Family, Histogram, render_labels

_BOUNDS_MS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 10_000.0, 30_000.0, 60_000.0)
"""Knative's, whose first is 10 ms, and finer ones below: here most take less."""


class ReconcileStatistics:
    """One controller's."""

    def __init__(self) -> None:
        self._took_ms = {True: Histogram(_BOUNDS_MS), False: Histogram(_BOUNDS_MS)}

    def ended(self, took_s: float, *, success: bool) -> None:
        self._took_ms[success].observe(took_s * 1e3)

    def add_to(self, count: Family, latency: Family, *, reconciler: str) -> None:
        for success, took_ms in self._took_ms.items():
            if took_ms.count:
                labels = render_labels(reconciler=reconciler, success=str(success).lower())
                count.add(labels, took_ms.count)
                took_ms.add_to(latency, labels)


def collect_statistics(controllers: Iterable[tuple[str, ReconcileStatistics, int]]) -> Iterable[Family]:
    """The families of controllers, each with its name, its statistics and how many keys wait in its queue now."""
    count = Family("controller_reconcile_count", "counter", "Reconciles that ended")
    latency = Family("controller_reconcile_latency", "histogram", "Milliseconds of a reconcile")
    depth = Family("controller_work_queue_depth", "gauge", "Objects that wait to be reconciled")
    for name, statistics, waiting in controllers:
        statistics.add_to(count, latency, reconciler=name)
        depth.add(render_labels(reconciler=name), waiting)
    return count, latency, depth
