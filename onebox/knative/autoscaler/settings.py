"""The config map config-autoscaler as values (spec/knative.md 2.8).

`parse_autoscaler_settings` refuses what Knative refuses; whoever watches the config map keeps the last good settings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controller.base.errors import FieldError, Invalid
from onebox.knative.duration import format_duration, parse_duration_s

CONFIG_NAME: Final = "config-autoscaler"
CONFIG_NAMESPACE: Final = "knative-serving"
KPA_CLASS: Final = "kpa.autoscaling.knative.dev"
HPA_CLASS: Final = "hpa.autoscaling.knative.dev"
TARGET_MIN: Final = 0.01
"""Smallest target per pod; Knative's."""
WINDOW_MIN_S: Final = 6.0
"""Shortest stable window; Knative's: six buckets."""
WINDOW_MAX_S: Final = 3600.0
"""Longest stable window, scale-down delay and retention; Knative's."""
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_BOOLEANS: Final = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerSettings:
    """Defaults are Knative's; the field names are the keys of the config map."""

    container_concurrency_target_percentage: float = 70.0
    """How full a pod should be, percent in (0, 100]; in the config map a value up to 1 is a fraction."""
    container_concurrency_target_default: float = 100.0
    """Capacity of a pod without containerConcurrency."""
    requests_per_second_target_default: float = 200.0
    target_burst_capacity: float = 211.0
    """Requests that the pods must be able to take at once before the activator leaves the path; -1: it never leaves."""
    stable_window: float = 60.0
    """Seconds, [6, 3600]."""
    panic_window_percentage: float = 10.0
    """Percent of the stable window, [1, 100]."""
    panic_threshold_percentage: float = 200.0
    """Percent of the ready pods that the panic average must need for panic to begin."""
    max_scale_up_rate: float = 1000.0
    """Factor, > 1."""
    max_scale_down_rate: float = 2.0
    """Factor, > 1."""
    enable_scale_to_zero: bool = True
    scale_to_zero_grace_period: float = 30.0
    """Seconds that the activator is in the path before the last pod goes."""
    scale_to_zero_pod_retention_period: float = 0.0
    """Seconds that the last pod stays after the last request left the window."""
    scale_down_delay: float = 0.0
    """Whole seconds that fewer pods must have been enough before any goes."""
    pod_autoscaler_class: str = KPA_CLASS
    activator_capacity: float = 100.0
    initial_scale: int = 1
    allow_zero_initial_scale: bool = False
    min_scale: int = 0
    max_scale: int = 0
    """0: no bound."""
    max_scale_limit: int = 0
    """0: no limit; else every max-scale lies in [1, limit]."""


_DURATIONS: Final = frozenset(
    {"stable_window", "scale_to_zero_grace_period", "scale_to_zero_pod_retention_period", "scale_down_delay"}
)


def parse_autoscaler_settings(data: Mapping[str, str]) -> AutoscalerSettings:
    """The settings in a config map's data; unknown keys are ignored; `Invalid` names every key that is wrong."""
    values: dict[str, float | int | bool | str] = {}
    errors: list[FieldError] = []
    for name, field in AutoscalerSettings.__dataclass_fields__.items():
        key = name.replace("_", "-")
        if key not in data:
            continue
        try:
            values[name] = _value(name, field.default, data[key].strip())
        except ValueError:
            errors.append(FieldError(field=key, message=f"invalid value: {data[key]}"))
    if errors:
        raise Invalid(errors)
    fraction = values.get("container_concurrency_target_percentage")
    if isinstance(fraction, float) and 0 < fraction <= 1:
        values["container_concurrency_target_percentage"] = fraction * 100
    settings = AutoscalerSettings(**values)  # type: ignore[arg-type]  # Each value has the type of its field's default.
    if errors := list(_errors(settings)):
        raise Invalid(errors)
    return settings


def parse_number(text: str) -> float:
    """A finite decimal number; ValueError for anything else (Python's float() takes "1_0", " 1" and "nan" too)."""
    if _NUMBER.fullmatch(text) is None or not math.isfinite(float(text)):
        raise ValueError(f"not a number: {text!r}")
    return float(text)


def parse_integer(text: str) -> int:
    """A decimal integer; ValueError for anything else."""
    if re.fullmatch(r"[+-]?\d+", text) is None:
        raise ValueError(f"not an integer: {text!r}")
    return int(text)


def _value(name: str, default: object, text: str) -> float | int | bool | str:
    if name in _DURATIONS:
        return parse_duration_s(text)
    match default:
        case bool():
            if text not in _BOOLEANS:
                raise ValueError(text)
            return _BOOLEANS[text]
        case int():
            return parse_integer(text)
        case float():
            return parse_number(text)
        case _:
            return text


def _errors(settings: AutoscalerSettings) -> Iterator[FieldError]:
    yield from _range_errors(settings)
    yield from _duration_errors(settings)
    yield from _scale_errors(settings)


def _range_errors(settings: AutoscalerSettings) -> Iterator[FieldError]:
    percentage = settings.container_concurrency_target_percentage
    target = percentage / 100 * settings.container_concurrency_target_default
    burst = settings.target_burst_capacity
    checks = (
        ("container-concurrency-target-percentage", percentage, 0 < percentage <= 100, "must be in (0, 100]"),
        (
            "container-concurrency-target-default",
            target,
            target >= TARGET_MIN,
            f"must give a target of {TARGET_MIN} or more",
        ),
        (
            "requests-per-second-target-default",
            settings.requests_per_second_target_default,
            settings.requests_per_second_target_default >= TARGET_MIN,
            f"must be at least {TARGET_MIN}",
        ),
        ("target-burst-capacity", burst, burst >= 0 or burst == -1, "must be -1 (unlimited) or at least 0"),
        ("activator-capacity", settings.activator_capacity, settings.activator_capacity >= 1, "must be at least 1"),
        ("max-scale-up-rate", settings.max_scale_up_rate, settings.max_scale_up_rate > 1, "must be above 1"),
        ("max-scale-down-rate", settings.max_scale_down_rate, settings.max_scale_down_rate > 1, "must be above 1"),
        (
            "panic-window-percentage",
            settings.panic_window_percentage,
            1 <= settings.panic_window_percentage <= 100,
            "must be in [1, 100]",
        ),
        (  # Knative does not check this one, and divides by it; 0 would mean panic for ever.
            "panic-threshold-percentage",
            settings.panic_threshold_percentage,
            settings.panic_threshold_percentage > 0,
            "must be above 0",
        ),
    )
    for key, value, right, must in checks:
        if not right:
            yield FieldError(field=key, message=f"{key} = {value:g}, {must}")


def _duration_errors(settings: AutoscalerSettings) -> Iterator[FieldError]:
    grace_s, retention_s = settings.scale_to_zero_grace_period, settings.scale_to_zero_pod_retention_period
    window_s, delay_s = settings.stable_window, settings.scale_down_delay
    checks = (
        ("scale-to-zero-grace-period", grace_s, grace_s > 0, "must be above 0"),
        ("scale-to-zero-pod-retention-period", retention_s, retention_s >= 0, "must be at least 0"),
        ("stable-window", window_s, WINDOW_MIN_S <= window_s <= WINDOW_MAX_S, "must be in [6s, 1h0m0s]"),
        ("stable-window", window_s, window_s.is_integer(), "must be whole seconds"),
        ("scale-down-delay", delay_s, delay_s >= 0, "must be at least 0"),
        ("scale-down-delay", delay_s, delay_s.is_integer(), "must be whole seconds"),
    )
    for key, value, right, must in checks:
        if not right:
            yield FieldError(field=key, message=f"{key} = {format_duration(value)}, {must}")


def _scale_errors(settings: AutoscalerSettings) -> Iterator[FieldError]:
    least_initial = 0 if settings.allow_zero_initial_scale else 1
    most, limit = settings.max_scale, settings.max_scale_limit
    checks = (
        (
            "initial-scale",
            settings.initial_scale,
            settings.initial_scale >= least_initial,
            f"must be at least {least_initial}",
        ),
        ("min-scale", settings.min_scale, settings.min_scale >= 0, "must be at least 0"),
        ("max-scale-limit", limit, limit >= 0, "must be at least 0"),
        ("max-scale", most, most >= 0, "must be at least 0"),
        ("max-scale", most, limit <= 0 or 1 <= most <= limit, f"must be in [1, max-scale-limit ({limit})]"),
        (
            "min-scale",
            settings.min_scale,
            most <= 0 or settings.min_scale <= most,
            f"must not exceed max-scale ({most})",
        ),
    )
    for key, value, right, must in checks:
        if not right:
            yield FieldError(field=key, message=f"{key} = {value}, {must}")
