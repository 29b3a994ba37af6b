"""What the server counts, and its Prometheus page.

The instruments are plain numbers that the loop alone changes: prometheus-client's own take a lock and a microsecond for
each observation, which is a percent of a small request. It comes in when the page is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

SECONDS_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)
"""Upper bounds: prometheus-client's defaults, which KServe's metrics have, and two more where our servers live."""
_RESERVED_LABELS_MAX = 1000
"""Series of one instrument; names come from paths, and strangers choose paths. A guess."""


SIZE_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Upper bounds for rows of a batch."""


class Histogram:
    """Observations by the values of its labels."""

    def __init__(
        self, name: str, help_text: str, labels: tuple[str, ...], buckets: tuple[float, ...] = SECONDS_BUCKETS
    ) -> None:
        self.name = name
        self.help_text = help_text
        self.labels = labels
        self.buckets = buckets
        self._series: dict[tuple[str, ...], HistogramSeries] = {}

    def series(self, *values: str) -> HistogramSeries:
        """The series of these label values; keep it where it is used often."""
        found = self._series.get(values)
        if found is None:
            if len(self._series) >= _RESERVED_LABELS_MAX:
                values = ("other",) * len(self.labels)
            found = self._series.setdefault(values, HistogramSeries(self.buckets))
        return found

    def dump(self) -> list[Any]:
        """All series, as JSON has them."""
        return [[values, *series.dump()] for values, series in self._series.items()]

    def absorb(self, dump: list[Any]) -> None:
        """Adds what another process counted."""
        for values, counts, total in dump:
            self.series(*values).absorb(counts, total)

    def families(self) -> Iterator[Any]:
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self.name, self.help_text, labels=self.labels)
        for values, series in list(self._series.items()):
            family.add_metric(values, series.cumulative(), series.total)
        yield family


class HistogramSeries:
    """One histogram: how many observations fell under each bound, and their sum."""

    __slots__ = ("_buckets", "_counts", "total")

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self._buckets = buckets
        self._counts = [0] * (len(buckets) + 1)
        self.total = 0.0
        """The sum of all that was observed."""

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._buckets, value)] += 1
        self.total += value

    def dump(self) -> tuple[list[int], float]:
        return list(self._counts), self.total

    def absorb(self, counts: list[int], total: float) -> None:
        self._counts = [own + other for own, other in zip(self._counts, counts, strict=True)]
        self.total += total

    @property
    def count(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """As Prometheus wants it: each bound with all that lies at or under it."""
        total, rows = 0, []
        for bound, count in zip((*map(str, self._buckets), "+Inf"), self._counts, strict=True):
            total += count
            rows.append((bound, total))
        return rows


class Counter:
    """Numbers that only grow, by the values of their labels."""

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.help_text = help_text
        self.labels = labels
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, values: tuple[str, ...], amount: float = 1) -> None:
        if values not in self._values and len(self._values) >= _RESERVED_LABELS_MAX:
            values = ("other",) * len(self.labels)
        self._values[values] = self._values.get(values, 0) + amount

    def value(self, *values: str) -> float:
        return self._values.get(values, 0)

    def dump(self) -> list[Any]:
        """All values, as JSON has them."""
        return [[values, value] for values, value in self._values.items()]

    def absorb(self, dump: list[Any]) -> None:
        """Adds what another process counted."""
        for values, value in dump:
            self.add(tuple(values), value)

    def families(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self.help_text, labels=self.labels)
        for values, value in list(self._values.items()):
            family.add_metric(values, value)
        yield family


class Gauge(Counter):
    """Numbers that are set."""

    def set(self, values: tuple[str, ...], value: float) -> None:
        self._values[values] = value

    def absorb(self, dump: list[Any]) -> None:
        """Keeps the higher value: what several processes have each, like a model, is one thing to who looks."""
        for values, value in dump:
            key = tuple(values)
            self._values[key] = max(value, self._values.get(key, value))

    def replace(self, values: dict[tuple[str, ...], float]) -> None:
        """These and no others."""
        self._values = values

    def families(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(self.name, self.help_text, labels=self.labels)
        for values, value in list(self._values.items()):
            family.add_metric(values, value)
        yield family


class ServerMetrics:
    """All instruments of one server. Stage histograms carry KServe's names."""

    def __init__(self) -> None:
        model = ("model_name",)
        self.preprocess = Histogram("request_preprocess_seconds", "pre-process request latency", model)
        self.predict = Histogram("request_predict_seconds", "predict request latency", model)
        self.postprocess = Histogram("request_postprocess_seconds", "post-process request latency", model)
        self.explain = Histogram("request_explain_seconds", "explain request latency", model)
        self.requests = Counter("ladle_requests", "requests answered", ("model_name", "protocol", "code"))
        self.duration = Histogram(
            "ladle_request_duration_seconds", "from a request's headers to its answer", ("model_name", "protocol")
        )
        self.batch_size = Histogram(
            "ladle_batch_size_rows", "rows of the batches sent to the model", model, SIZE_BUCKETS
        )
        self.batch_wait = Histogram("ladle_batch_wait_seconds", "from a batch's first request to its sending", model)
        self.engine = Gauge("ladle_model_engine", "what answers for the model; always 1", ("model_name", "engine"))
        self.device = Gauge(
            "ladle_model_device",
            "where the model runs, and whether another device was asked for; always 1",
            ("model_name", "device", "fallback"),
        )
        self.queue = Histogram(
            "ladle_request_queue_seconds",
            "from a request's headers (gRPC: its message) to its decoding: its body, and its slot",
            model,
        )
        self.payload_events = payload_event_counter()
        self.load = Gauge("ladle_model_load_seconds", "how long the model took to load", model)
        self.size = Gauge("ladle_model_size_bytes", "the files in the model's directory", model)

    def dump(self) -> dict[str, list[Any]]:
        """Everything that was counted, as JSON has it."""
        return {name: instrument.dump() for name, instrument in vars(self).items()}

    def absorb(self, dump: dict[str, list[Any]], *, lasting_only: bool = False) -> None:
        """Adds what another process counted; `lasting_only` leaves out what is true only while that process lives."""
        for name, instrument in vars(self).items():
            if not (lasting_only and isinstance(instrument, Gauge)):
                instrument.absorb(dump.get(name, []))

    def page(self, accept: str, pids: Sequence[int] = ()) -> tuple[bytes, bytes]:
        """The page and its content type, Prometheus text or OpenMetrics as `accept` wishes.

        `pids`: the processes whose memory and time are on it, summed; this one where there are none.
        """
        import prometheus_client
        from prometheus_client import exposition

        registry = prometheus_client.CollectorRegistry(auto_describe=False)
        registry.register(_Collector(vars(self).values()))
        if pids:
            registry.register(_ProcessesCollector(pids))
        else:
            prometheus_client.ProcessCollector(registry=registry)
            prometheus_client.GCCollector(registry=registry)
        prometheus_client.PlatformCollector(registry=registry)
        encode, content_type = exposition.choose_encoder(accept)
        return encode(registry), content_type.encode()


def payload_event_counter() -> Counter:
    """Events of KServe's logger by what became of them: sent, failed, dropped."""
    return Counter("ladle_payload_events", "events of requests and answers, by what became of them", ("outcome",))


def render_page(instruments: Iterable[Histogram | Counter]) -> bytes:
    """Just these instruments, as Prometheus' text."""
    import prometheus_client

    registry = prometheus_client.CollectorRegistry(auto_describe=False)
    registry.register(_Collector(instruments))
    return prometheus_client.generate_latest(registry)


class _Collector:
    def __init__(self, instruments: Iterable[Histogram | Counter]) -> None:
        self._instruments = list(instruments)

    def describe(self) -> Iterable[Any]:
        return ()

    def collect(self) -> Iterator[Any]:
        for instrument in self._instruments:
            yield from instrument.families()


_PROCESS_START = "process_start_time_seconds"


class _ProcessesCollector:
    """The process metrics of several processes, added up; they began when the first one did."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids

    def describe(self) -> Iterable[Any]:
        return ()

    def collect(self) -> Iterator[Any]:
        import prometheus_client

        families: dict[str, Any] = {}
        for pid in self._pids:
            # One that ended meanwhile has none.
            for family in prometheus_client.ProcessCollector(pid=_constant(pid), registry=None).collect():
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples = [_together(*pair) for pair in zip(known.samples, family.samples, strict=True)]
        yield from families.values()


def _constant(pid: int) -> Callable[[], int]:
    return lambda: pid


def _together(one: Any, other: Any) -> Any:
    value = min(one.value, other.value) if one.name == _PROCESS_START else one.value + other.value
    return one._replace(value=value)
