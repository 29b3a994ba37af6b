"""What became of a model's requests, as Triton's clients ask for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ladle.server.metrics import HistogramSeries

NS_PER_S = 1_000_000_000
MS_PER_S = 1000


@dataclass(slots=True)
class Duration:
    """How many, and how long altogether."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    @property
    def ns(self) -> int:
        return int(self.seconds * NS_PER_S)


@dataclass(slots=True)
class ModelStatistics:
    """Of one model since it was registered. Stages are those of the metrics: decoding, predicting, encoding."""

    compute_input: HistogramSeries
    compute_infer: HistogramSeries
    compute_output: HistogramSeries
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    """Waiting in the batcher."""
    executions: int = 0
    """Calls of the model: fewer than requests where they are batched."""
    last_inference_s: float = 0.0
    """Wall-clock time of the last success; 0 before the first."""

    def durations(self) -> dict[str, Duration]:
        """By Triton's names."""
        stages = {name: getattr(self, name) for name in ("compute_input", "compute_infer", "compute_output")}
        return {
            "success": self.success,
            "fail": self.fail,
            "queue": self.queue,
            **{name: Duration(series.count, series.total) for name, series in stages.items()},
        }
