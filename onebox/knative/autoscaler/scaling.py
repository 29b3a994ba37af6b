"""All that a revision's scaling follows, from its annotations, its containerConcurrency and config-autoscaler (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from onebox.knative.autoscaler.annotations import Annotations
from onebox.knative.autoscaler.decision import DeciderSpec
from onebox.knative.autoscaler.settings import HPA_CLASS, TARGET_MIN, AutoscalerSettings
from onebox.knative.autoscaler.windows import Aggregation, Metric, panic_window_s

Number = TypeVar("Number", int, float)

PROGRESS_DEADLINE_S: Final = 600.0
"""Seconds that a Deployment may take to come up; Knative's default of config-deployment progress-deadline."""
_RPS_UTILIZATION: Final = 0.7
"""How full a pod should be when it scales on requests per second; a constant of Knative's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionScaling:
    """One revision's scaling."""

    decider: DeciderSpec
    aggregation: Aggregation
    stable_window_s: int
    panic_window_s: int
    min_scale: int
    max_scale: int
    """0: no bound."""
    scale_to_zero: bool
    grace_period_s: float
    """The activator is in the path for this long before the last pod goes."""
    retention_s: float
    """The last pod stays at least this long after the revision became inactive."""
    progress_deadline_s: float


def build_scaling(
    annotations: Mapping[str, str],
    container_concurrency: int,
    *,
    reachable: bool,
    settings: AutoscalerSettings,
    progress_deadline_s: float = PROGRESS_DEADLINE_S,
) -> RevisionScaling:
    """The scaling of a revision; an annotation wins over the config map."""
    view = Annotations(annotations)
    stable_s = int(_or(view.duration_s("window"), settings.stable_window))
    retention_s = _or(
        view.duration_s("scale-to-zero-pod-retention-period"), settings.scale_to_zero_pod_retention_period
    )
    min_scale = _or(view.integer("min-scale"), settings.min_scale) if reachable else 0
    # An autoscaler on CPU has no sign of a first request and never scales to zero; nor does what stands in for it here.
    on_cpu = (view.text("class") or settings.pod_autoscaler_class) == HPA_CLASS
    return RevisionScaling(
        decider=_decider(view, container_concurrency, reachable=reachable, settings=settings, stable_s=stable_s),
        aggregation=view.aggregation(),
        stable_window_s=stable_s,
        panic_window_s=panic_window_s(
            stable_s, _or(view.number("panic-window-percentage"), settings.panic_window_percentage)
        ),
        min_scale=max(1, min_scale) if on_cpu and reachable else min_scale,
        max_scale=_or(view.integer("max-scale"), settings.max_scale),
        scale_to_zero=settings.enable_scale_to_zero,
        grace_period_s=settings.scale_to_zero_grace_period,
        retention_s=retention_s if reachable else 0.0,
        progress_deadline_s=_or(view.progress_deadline_s(), progress_deadline_s),
    )


def resolve_target(view: Annotations, container_concurrency: int, settings: AutoscalerSettings) -> tuple[float, float]:
    """(target, total): what to aim for per pod and what a pod can take, in units of the metric (spec/knative.md 2.7)."""
    metric = view.metric()
    if metric is Metric.RPS:
        total, utilization = settings.requests_per_second_target_default, _RPS_UTILIZATION
    else:
        total = float(container_concurrency or settings.container_concurrency_target_default)
        utilization = settings.container_concurrency_target_percentage / 100
    if (wanted := view.number("target")) is not None:
        # More than containerConcurrency can never be inside a pod, so that no pod would ever look full.
        limited = metric is Metric.CONCURRENCY and container_concurrency > 0
        total = min(wanted, container_concurrency) if limited else wanted
    if (percentage := view.number("target-utilization-percentage")) is not None:
        utilization = percentage / 100
    return max(TARGET_MIN, total * utilization), total


def _decider(
    view: Annotations, container_concurrency: int, *, reachable: bool, settings: AutoscalerSettings, stable_s: int
) -> DeciderSpec:
    target, total = resolve_target(view, container_concurrency, settings)
    return DeciderSpec(
        metric=view.metric(),
        target=target,
        total=total,
        target_burst_capacity=_or(view.number("target-burst-capacity"), settings.target_burst_capacity),
        panic_threshold=_or(view.number("panic-threshold-percentage"), settings.panic_threshold_percentage) / 100,
        scale_up_rate_max=settings.max_scale_up_rate,
        scale_down_rate_max=settings.max_scale_down_rate,
        stable_window_s=stable_s,
        scale_down_delay_s=_or(view.duration_s("scale-down-delay"), settings.scale_down_delay),
        activation_scale=view.integer("activation-scale") or 0,
        initial_scale=_initial_scale(view, settings),
        reachable=reachable,
    )


def _initial_scale(view: Annotations, settings: AutoscalerSettings) -> int:
    wanted = view.integer("initial-scale")
    if wanted is None or (wanted == 0 and not settings.allow_zero_initial_scale):
        return settings.initial_scale
    return wanted


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value
