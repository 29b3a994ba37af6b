"""The autoscaling.knative.dev annotations of a revision: read, and refused by admission where they are wrong.

The words of the refusals are Knative's, since clients and tests look at them (spec/knative.md 2.9 and its recordings).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from controller.base.errors import FieldError
from onebox.knative.autoscaler.settings import (
    HPA_CLASS,
    KPA_CLASS,
    TARGET_MIN,
    WINDOW_MAX_S,
    WINDOW_MIN_S,
    AutoscalerSettings,
    parse_integer,
    parse_number,
)
from onebox.knative.autoscaler.windows import Aggregation, Metric
from onebox.knative.duration import format_duration, parse_duration_s

PREFIX: Final = "autoscaling.knative.dev/"
PROGRESS_DEADLINE: Final = "serving.knative.dev/progress-deadline"
_INT32_MAX: Final = 2**31 - 1
_KNATIVE_DOMAIN: Final = ".knative.dev"

# Words of an annotation that have an old spelling in camelCase besides; the first is preferred where both are given.
_OLD_SPELLINGS: Final = {
    "initial-scale": "initialScale",
    "max-scale": "maxScale",
    "min-scale": "minScale",
    "metric-aggregation-algorithm": "metricAggregationAlgorithm",
    "panic-threshold-percentage": "panicThresholdPercentage",
    "panic-window-percentage": "panicWindowPercentage",
    "scale-down-delay": "scaleDownDelay",
    "scale-to-zero-pod-retention-period": "scaleToZeroPodRetentionPeriod",
    "target-burst-capacity": "targetBurstCapacity",
    "target-utilization-percentage": "targetUtilizationPercentage",
}
_AGGREGATIONS: Final = {
    "linear": Aggregation.LINEAR,
    "weighted-exponential": Aggregation.WEIGHTED_EXPONENTIAL,
    "weightedExponential": Aggregation.WEIGHTED_EXPONENTIAL,
}


class Annotations:
    """A revision's annotations, by the word after the prefix. A value that cannot be read counts as absent: admission
    refused it, so that only an object from before an upgrade can have it."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self._annotations = annotations

    def find(self, word: str) -> tuple[str, str] | None:
        """(key, value) of an annotation under its new or its old spelling."""
        for spelling in (word, _OLD_SPELLINGS.get(word)):
            key = f"{PREFIX}{spelling}"
            if spelling is not None and key in self._annotations:
                return key, self._annotations[key]
        return None

    def text(self, word: str) -> str | None:
        found = self.find(word)
        return None if found is None else found[1]

    def number(self, word: str) -> float | None:
        text = self.text(word)
        try:
            return None if text is None else parse_number(text)
        except ValueError:
            return None

    def integer(self, word: str) -> int | None:
        text = self.text(word)
        try:
            return None if text is None else parse_integer(text)
        except ValueError:
            return None

    def duration_s(self, word: str) -> float | None:
        text = self.text(word)
        try:
            return None if text is None else parse_duration_s(text)
        except ValueError:
            return None

    def metric(self) -> Metric:
        """Concurrency unless rps is asked for. (HPA's metrics are not for this autoscaler.)"""
        return Metric.RPS if self.text("metric") == Metric.RPS else Metric.CONCURRENCY

    def aggregation(self) -> Aggregation:
        return _AGGREGATIONS.get(self.text("metric-aggregation-algorithm") or "", Aggregation.LINEAR)

    def progress_deadline_s(self) -> float | None:
        text = self._annotations.get(PROGRESS_DEADLINE)
        try:
            return None if text is None else parse_duration_s(text)
        except ValueError:
            return None


def validate_annotations(
    annotations: Mapping[str, str], settings: AutoscalerSettings | None = None
) -> list[FieldError]:
    """What Knative refuses in these annotations; `field` is the annotation's key (for two keys, both with a comma).

    `settings`: config-autoscaler, which limits max-scale and initial-scale; None: Knative's defaults.
    """
    view = Annotations(annotations)
    settings = settings or AutoscalerSettings()
    return [
        *_class_errors(view),
        *_bounds_errors(view, settings),
        *_number_errors(view),
        *_duration_errors(view),
        *_metric_errors(view, settings),
        *_initial_scale_errors(view, settings),
        *_progress_deadline_errors(annotations),
    ]


def _invalid(key: str, text: object) -> FieldError:
    return FieldError(field=key, message=f"invalid value: {text}")


def _out_of_bounds(key: str, text: object, *, least: object, most: object) -> FieldError:
    return FieldError(field=key, message=f"expected {least} <= {text} <= {most}")


def _class_errors(view: Annotations) -> Iterator[FieldError]:
    if (found := view.find("class")) is not None:
        key, text = found
        if text.endswith(_KNATIVE_DOMAIN) and text not in (KPA_CLASS, HPA_CLASS):
            yield _invalid(key, text)


def _bounds_errors(view: Annotations, settings: AutoscalerSettings) -> Iterator[FieldError]:
    bounds = {"min-scale": 0, "max-scale": 0}
    for word in bounds:
        if (found := view.find(word)) is None:
            continue
        key, text = found
        try:
            value = parse_integer(text)
        except ValueError:
            yield _invalid(key, text)
            continue
        if 0 <= value <= _INT32_MAX:
            bounds[word] = value
        else:
            yield _out_of_bounds(key, text, least=0, most=_INT32_MAX)
    least, most = bounds["min-scale"], bounds["max-scale"]
    if 0 < most < least:
        both = f"{PREFIX}max-scale, {PREFIX}min-scale"
        yield FieldError(field=both, message=f"max-scale={most} is less than min-scale={least}")
    yield from _limit_errors(view, most, settings.max_scale_limit)
    yield from _activation_errors(view, least, most)


def _limit_errors(view: Annotations, most: int, limit: int) -> Iterator[FieldError]:
    if limit == 0 or (found := view.find("max-scale")) is None:
        return
    if most > limit:
        yield _out_of_bounds(found[0], most, least=1, most=limit)
    if most == 0:
        yield FieldError(field=found[0], message=f"max-scale=0 (unlimited), must be less than {limit}")


def _activation_errors(view: Annotations, least: int, most: int) -> Iterator[FieldError]:
    if (found := view.find("activation-scale")) is None:
        return
    key, text = found
    try:
        value = parse_integer(text)
    except ValueError:
        yield _invalid(key, text)
        return
    if value > _INT32_MAX:
        yield _invalid(key, text)
    elif least > value:
        yield FieldError(field=key, message=f"min-scale={least} is greater than activation-scale={value}")
    elif 0 < most < value:
        yield FieldError(field=key, message=f"max-scale={most} is less than activation-scale={value}")
    elif value < 2:
        yield FieldError(field=key, message=f"activation-scale={value} must be greater than 1")


def _number_errors(view: Annotations) -> Iterator[FieldError]:
    for word, least, most in (
        ("panic-window-percentage", 1, 100),
        ("panic-threshold-percentage", 110, 1000),
        ("target", TARGET_MIN, None),
        ("target-utilization-percentage", 1, 100),
        ("target-burst-capacity", None, None),
    ):
        if (found := view.find(word)) is None:
            continue
        key, text = found
        value = view.number(word)
        if value is None or (word == "target-burst-capacity" and value < 0 and value != -1):
            yield _invalid(key, text)
        elif least is not None and most is not None and not least <= value <= most:
            yield _out_of_bounds(key, text, least=least, most=most)
        elif least is not None and value < least:
            yield FieldError(field=key, message=f"target {text} should be at least {least:g}")


def _duration_errors(view: Annotations) -> Iterator[FieldError]:
    for word, least_s, whole in (
        ("window", WINDOW_MIN_S, True),
        ("scale-to-zero-pod-retention-period", 0.0, False),
        ("scale-down-delay", 0.0, True),
    ):
        if (found := view.find(word)) is None:
            continue
        key, text = found
        seconds = view.duration_s(word)
        if seconds is None:
            yield _invalid(key, text)
        elif not least_s <= seconds <= WINDOW_MAX_S:
            yield _out_of_bounds(key, text, least=format_duration(least_s), most=format_duration(WINDOW_MAX_S))
        elif whole and not seconds.is_integer():
            yield FieldError(field=key, message="must be specified with at most second precision")


def _metric_errors(view: Annotations, settings: AutoscalerSettings) -> Iterator[FieldError]:
    chosen = view.text("class")
    metric = view.find("metric")
    algorithm = view.find("metric-aggregation-algorithm")
    if metric is not None:
        key, text = metric
        in_class = chosen if chosen is not None else settings.pod_autoscaler_class
        if (in_class == KPA_CLASS and text not in set(Metric)) or (in_class == HPA_CLASS and not text):
            yield _invalid(key, text)
    # Other autoscalers may have algorithms of their own; Knative looks only where the class is written out.
    if chosen == KPA_CLASS and algorithm is not None and algorithm[1] and algorithm[1] not in _AGGREGATIONS:
        yield _invalid(*algorithm)


def _initial_scale_errors(view: Annotations, settings: AutoscalerSettings) -> Iterator[FieldError]:
    if (found := view.find("initial-scale")) is None:
        return
    key, text = found
    value = view.integer("initial-scale")
    if value is None:
        yield _invalid(key, text)
    elif value < 0:
        yield _invalid(f"{key} must be greater than 0", text)
    elif value == 0 and not settings.allow_zero_initial_scale:
        yield _invalid(f"{key}=0 not allowed by cluster", text)


def _progress_deadline_errors(annotations: Mapping[str, str]) -> Iterator[FieldError]:
    text = annotations.get(PROGRESS_DEADLINE, "")
    if not text:
        return
    try:
        seconds = parse_duration_s(text)
    except ValueError:
        yield _invalid(PROGRESS_DEADLINE, text)
        return
    if not seconds.is_integer():
        yield FieldError(field=PROGRESS_DEADLINE, message=f"progress-deadline={text} is not at second precision")
    elif seconds < 0:
        yield FieldError(field=PROGRESS_DEADLINE, message=f"progress-deadline={text} must be positive")
