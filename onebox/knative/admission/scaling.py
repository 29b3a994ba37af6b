"""Autoscaling annotations of a revision template: each alone, and those that limit each other."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator, Mapping

from controller.base.errors import FieldError
from onebox.knative.admission import errors
from onebox.knative.durations import NANOSECONDS_PER_SECOND, parse_duration_ns
from onebox.knative.names import (
    AUTOSCALING_PREFIX,
    CLASS_ANNOTATION,
    INITIAL_SCALE,
    MAX_SCALE,
    METRIC_ANNOTATION,
    MIN_SCALE,
    AnnotationKey,
)
from onebox.knative.settings.scale import HPA_CLASS, KPA_CLASS, ScaleSettings

_INT32_MAX = 2**31 - 1
_WINDOW_MIN_NS, _WINDOW_MAX_NS = 6 * NANOSECONDS_PER_SECOND, 3600 * NANOSECONDS_PER_SECOND
_WHOLE_SECONDS = "must be specified with at most second precision"
_KNATIVE_CLASS_SUFFIX = ".knative.dev"
_AGGREGATIONS = ("linear", "weighted-exponential", "weightedExponential")
_INTEGER = re.compile(r"[+-]?\d+")


def _key(name: str, old_name: str = "") -> AnnotationKey:
    return AnnotationKey(f"{AUTOSCALING_PREFIX}/{name}", f"{AUTOSCALING_PREFIX}/{old_name}" if old_name else "")


_ACTIVATION_SCALE = _key("activation-scale")
_PANIC_WINDOW = _key("panic-window-percentage", "panicWindowPercentage")
_PANIC_THRESHOLD = _key("panic-threshold-percentage", "panicThresholdPercentage")
_TARGET = _key("target")
_TARGET_UTILIZATION = _key("target-utilization-percentage", "targetUtilizationPercentage")
_TARGET_BURST = _key("target-burst-capacity", "targetBurstCapacity")
_WINDOW = _key("window")
_RETENTION = _key("scale-to-zero-pod-retention-period", "scaleToZeroPodRetentionPeriod")
_DOWN_DELAY = _key("scale-down-delay", "scaleDownDelay")
_AGGREGATION = _key("metric-aggregation-algorithm", "metricAggregationAlgorithm")
_PERCENTAGES = ((_PANIC_WINDOW, 1, 100), (_PANIC_THRESHOLD, 110, 1000), (_TARGET_UTILIZATION, 1, 100))
_TARGET_MIN = 0.01
"""Knative's smallest target: below it, one request would ask for more pods than there are numbers."""


def check_scaling(annotations: Mapping[str, str], path: str, settings: ScaleSettings) -> Iterator[FieldError]:
    """Every autoscaling annotation that Knative would refuse; `path` is where the annotations are."""
    check = _Check(annotations, path)
    yield from _check_class_and_metric(check, settings)
    yield from _check_scales(check, settings)
    yield from _check_numbers(check)
    yield from _check_durations(check)


class _Check:
    """The annotations and their place, so that each rule reads as one line."""

    def __init__(self, annotations: Mapping[str, str], path: str) -> None:
        self.annotations = annotations
        self._path = path

    def find(self, annotation: AnnotationKey) -> tuple[str, str | None]:
        """The path and the value of the annotation; None where it is not set."""
        key, value = annotation.find(self.annotations)
        return self.path(key), value

    def path(self, key: str) -> str:
        return f"{self._path}.{key}"


def _check_class_and_metric(check: _Check, settings: ScaleSettings) -> Iterator[FieldError]:
    class_ = check.annotations.get(CLASS_ANNOTATION)
    if class_ is not None and class_.endswith(_KNATIVE_CLASS_SUFFIX) and class_ not in (KPA_CLASS, HPA_CLASS):
        yield errors.invalid(check.path(CLASS_ANNOTATION), class_)
    metric = check.annotations.get(METRIC_ANNOTATION)
    effective = class_ if class_ is not None else settings.autoscaler_class
    if metric is not None and not _is_metric_of(effective, metric):
        yield errors.invalid(check.path(METRIC_ANNOTATION), metric)
    path, aggregation = check.find(_AGGREGATION)
    if class_ == KPA_CLASS and aggregation and aggregation not in _AGGREGATIONS:
        yield errors.invalid(path, aggregation)


def _is_metric_of(class_: str, metric: str) -> bool:
    if class_ == KPA_CLASS:
        return metric in ("concurrency", "rps")
    return bool(metric) if class_ == HPA_CLASS else True


def _check_scales(check: _Check, settings: ScaleSettings) -> Iterator[FieldError]:
    least = yield from _check_count(check, MIN_SCALE)
    most = yield from _check_count(check, MAX_SCALE)
    if most and most < least:
        for annotation in (MAX_SCALE, MIN_SCALE):
            yield errors.generic(check.path(annotation.name), f"max-scale={most} is less than min-scale={least}")
    yield from _check_max_limit(check, most, settings.max_scale_limit)
    yield from _check_activation_scale(check, least, most)
    path, initial = check.find(INITIAL_SCALE)
    if initial is None:
        return
    if not _INTEGER.fullmatch(initial):
        yield errors.invalid(path, initial)
    elif int(initial) < 0:
        yield errors.invalid(path, initial, "must be at least 0")
    elif int(initial) == 0 and not settings.allow_zero_initial_scale:
        yield errors.invalid(path, initial, "not allowed by cluster (allow-zero-initial-scale in config-autoscaler)")


def _check_count(check: _Check, annotation: AnnotationKey) -> Generator[FieldError, None, int]:
    """Yields what is wrong; returns the number, 0 where there is none."""
    path, value = check.find(annotation)
    if value is None:
        return 0
    if not _INTEGER.fullmatch(value):
        yield errors.invalid(path, value)
        return 0
    if not 0 <= int(value) <= _INT32_MAX:
        yield errors.out_of_bounds(path, value, 0, _INT32_MAX)
        return 0
    return int(value)


def _check_max_limit(check: _Check, most: int, limit: int) -> Iterator[FieldError]:
    path, value = check.find(MAX_SCALE)
    if value is None or not limit:
        return
    if most > limit:
        yield errors.out_of_bounds(path, most, 1, limit)
    elif most == 0:
        yield errors.generic(path, f"max-scale=0 (unlimited), must be less than {limit}")


def _check_activation_scale(check: _Check, least: int, most: int) -> Iterator[FieldError]:
    path, value = check.find(_ACTIVATION_SCALE)
    if value is None:
        return
    if not _INTEGER.fullmatch(value):
        yield errors.invalid(path, value)
    elif least > int(value):
        yield errors.generic(path, f"min-scale={least} is greater than activation-scale={value}")
    elif most and most < int(value):
        yield errors.generic(path, f"max-scale={most} is less than activation-scale={value}")
    elif int(value) < 2:
        yield errors.generic(path, f"activation-scale={value} must be greater than 1")


def _check_numbers(check: _Check) -> Iterator[FieldError]:
    for annotation, low, high in _PERCENTAGES:
        path, value = check.find(annotation)
        if value is None:
            continue
        number = _number(value)
        if number is None:
            yield errors.invalid(path, value)
        elif not low <= number <= high:
            yield errors.out_of_bounds(path, value, low, high)
    path, target = check.find(_TARGET)
    if target is not None:
        number = _number(target)
        if number is None:
            yield errors.invalid(path, target)
        elif number < _TARGET_MIN:
            yield errors.generic(path, f"target {target} should be at least {_TARGET_MIN}")
    path, burst = check.find(_TARGET_BURST)
    if burst is not None and ((number := _number(burst)) is None or (number < 0 and number != -1)):
        yield errors.invalid(path, burst)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_durations(check: _Check) -> Iterator[FieldError]:
    yield from _check_duration(check, _WINDOW, ("6s", _WINDOW_MIN_NS), whole=True)
    yield from _check_duration(check, _RETENTION, ("0s", 0), whole=False)
    yield from _check_duration(check, _DOWN_DELAY, ("0s", 0), whole=True)


def _check_duration(
    check: _Check, annotation: AnnotationKey, low: tuple[str, int], *, whole: bool
) -> Iterator[FieldError]:
    path, value = check.find(annotation)
    if value is None:
        return
    try:
        duration_ns = parse_duration_ns(value)
    except ValueError:
        yield errors.invalid(path, value)
        return
    if not low[1] <= duration_ns <= _WINDOW_MAX_NS:
        yield errors.out_of_bounds(path, value, low[0], "1h0m0s")
    elif whole and duration_ns % NANOSECONDS_PER_SECOND:
        yield errors.generic(path, _WHOLE_SECONDS)
