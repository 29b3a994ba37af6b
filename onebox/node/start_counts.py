"""How many containers the node started, how, and in what time; kubelet's names where it has them."""

from __future__ import annotations

from collections.abc import Iterable

from controller.base.exposition import Family, Histogram, render_labels

_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class StartCounts:
    """Counts starts of processes."""

    def __init__(self) -> None:
        self._started: dict[str, Histogram] = {}
        self._failed = 0

    def started(self, how: str, took_s: float) -> None:
        """`how`: the name of the template, `exec` for an ordinary process, `nothing` where it took none."""
        histogram = self._started.get(how)
        if histogram is None:
            histogram = self._started[how] = Histogram(_BOUNDS_S)
        histogram.observe(took_s)

    def failed(self) -> None:
        self._failed += 1

    def collect(self) -> Iterable[Family]:
        """The families."""
        started = Family("kubelet_started_containers_total", "counter", "Containers that were started")
        errors = Family("kubelet_started_containers_errors_total", "counter", "Containers that could not be started")
        times = Family("ladle_node_process_start_seconds", "histogram", "Until a container's process was there")
        errors.add("", self._failed)
        for how, took_s in self._started.items():
            labels = render_labels(started_from=how)
            started.add(labels, took_s.count)
            took_s.add_to(times, labels)
        return started, errors, times
