"""What the API server answered, under the names of Kubernetes' own: by verb, resource and code."""

from __future__ import annotations

from collections.abc import Iterable

from controller.base.exposition import Family, Histogram, render_labels

_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Finer than Kubernetes' below 5 ms, where most answers of SQLite in process are."""
_SERIES_MAX = 2000
"""Kinds come with definitions, so that their number has no other bound. A guess."""


class RequestCounts:
    """Counts answers; a microsecond each."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._took_s: dict[str, Histogram] = {}

    def answered(self, verb: str, resource: str, code: int, took_s: float) -> None:
        """`resource`: plural and group, empty for what is no object; `took_s` is left out of watches, which last."""
        key = verb, resource, code
        if key not in self._counts and len(self._counts) >= _SERIES_MAX:
            key = verb, "other", code
        self._counts[key] = self._counts.get(key, 0) + 1
        if verb == "WATCH":
            return
        histogram = self._took_s.get(verb)
        if histogram is None:
            histogram = self._took_s[verb] = Histogram(_BOUNDS_S)
        histogram.observe(took_s)

    def collect(self) -> Iterable[Family]:
        """The families."""
        counts = Family("apiserver_request_total", "counter", "Requests that were answered")
        times = Family("apiserver_request_duration_seconds", "histogram", "From a request's head to its answer")
        for (verb, resource, code), count in self._counts.items():
            counts.add(render_labels(verb=verb, resource=resource, code=str(code)), count)
        for verb, took_s in self._took_s.items():
            took_s.add_to(times, render_labels(verb=verb))
        return counts, times
