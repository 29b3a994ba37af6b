"""The autoscaler's page: what it wants, sees and decided of each revision, under Knative's names (knative.dev, Serving
metrics, 1.18). Made from what it remembers anyway, when somebody asks; a revision that is gone is not in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.base.exposition import Family
from onebox.knative.autoscaler.revision import RevisionScaler
from onebox.knative.autoscaler.windows import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledRevision:
    """One revision as the page shows it."""

    labels: str
    scaler: RevisionScaler
    ready: int
    not_ready: int
    """Pods that exist, and are not ready."""


_GAUGES = (
    ("desired_pods", "Pods that the autoscaler wants"),
    ("requested_pods", "Pods that the autoscaler asked for: the replicas of the Deployment"),
    ("actual_pods", "Pods that are ready"),
    ("not_ready_pods", "Pods that are not ready"),
    (
        "excess_burst_capacity",
        "Requests that the pods could take beyond the wanted burst; below 0 the activator buffers",
    ),
    ("panic_mode", "1 while the autoscaler panics"),
)
_BY_METRIC = {
    Metric.CONCURRENCY: (
        ("stable_request_concurrency", "Requests at once, average of the stable window"),
        ("panic_request_concurrency", "Requests at once, average of the panic window"),
        ("target_concurrency_per_pod", "Requests at once that each pod should have"),
    ),
    Metric.RPS: (
        ("stable_requests_per_second", "Requests each second, average of the stable window"),
        ("panic_requests_per_second", "Requests each second, average of the panic window"),
        ("target_requests_per_second", "Requests each second that each pod should have"),
    ),
}


def collect_scaling(revisions: Iterable[ScaledRevision], now_s: float) -> Iterable[Family]:
    """The families of these revisions at a time of the autoscaler's clock."""
    common = [Family(f"autoscaler_{name}", "gauge", text) for name, text in _GAUGES]
    by_metric = {
        metric: [Family(f"autoscaler_{name}", "gauge", text) for name, text in gauges]
        for metric, gauges in _BY_METRIC.items()
    }
    for each in revisions:
        scaler, spec = each.scaler, each.scaler.scaling.decider
        observed = scaler.observe(now_s)
        values = (
            max(0, scaler.decision.desired),  # -1 until the first data.
            scaler.view.replicas,
            each.ready,
            each.not_ready,
            scaler.decision.excess_burst_capacity,
            scaler.panicking,
        )
        for family, value in zip(common, values, strict=True):
            family.add(each.labels, value)
        for family, number in zip(by_metric[spec.metric], (observed.stable, observed.panic, spec.target), strict=True):
            family.add(each.labels, number)
    return [*common, *(family for families in by_metric.values() for family in families)]
