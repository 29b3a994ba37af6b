"""Whether a component's scaling fields hold together, in its deployment mode (spec/kserve.md 1.1, rules 9 and 10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from controller.api.defaulting import KNATIVE_MODE, STANDARD_MODE
from controller.api.field_errors import forbidden, invalid, not_supported, required
from controller.api.inferenceservice import ComponentSpec
from controller.api.quantity import parse_quantity
from controller.base.errors import FieldError
from controller.base.json import JsonObject

AUTOSCALER_CLASS_ANNOTATION: Final = "serving.kserve.io/autoscalerClass"
AUTOSCALER_CLASSES: Final = ("hpa", "external", "keda", "none")
KNATIVE_CLASS_ANNOTATION: Final = "autoscaling.knative.dev/class"
KNATIVE_HPA_CLASS: Final = "hpa.autoscaling.knative.dev"

_KNATIVE_METRICS: Final = ("concurrency", "rps")
_HPA_METRICS: Final = ("cpu", "memory")
_INT32_MAX: Final = 2**31 - 1
_MEBIBYTE: Final = 2**20


def validate_scaling(
    component: ComponentSpec, path: str, *, mode: str, annotations: Mapping[str, str]
) -> Iterator[FieldError]:
    """All that is wrong with replicas, targets and metrics."""
    yield from _validate_bounds(component, path)
    by_hpa = annotations.get(KNATIVE_CLASS_ANNOTATION) == KNATIVE_HPA_CLASS
    autoscaler = annotations.get(AUTOSCALER_CLASS_ANNOTATION, "hpa")
    if mode == KNATIVE_MODE and component.deploymentStrategy is not None:
        yield forbidden(f"{path}.deploymentStrategy", "only services of deployment mode Standard have it")
    if mode == STANDARD_MODE and autoscaler == "keda":
        yield from _validate_keda(component, path)
    elif (mode == STANDARD_MODE and autoscaler == "hpa") or (mode == KNATIVE_MODE and by_hpa):
        yield from _validate_hpa(component, path)
    elif mode == KNATIVE_MODE:
        yield from _validate_knative(component, path)


def _validate_bounds(component: ComponentSpec, path: str) -> Iterator[FieldError]:
    for name in ("minReplicas", "maxReplicas", "containerConcurrency"):
        value = getattr(component, name)
        if value is not None and value < 0:
            yield invalid(f"{path}.{name}", value, "must be 0 or more")
    low, high = component.minReplicas, component.maxReplicas
    if low is not None and high and low > high:
        yield invalid(f"{path}.minReplicas", low, f"must be at most maxReplicas, which is {high}")
    for name in ("minReplicas", "maxReplicas", "scaleTarget"):
        value = getattr(component, name)
        if value is not None and value > _INT32_MAX:
            yield invalid(f"{path}.{name}", value, f"must be at most {_INT32_MAX}")


def _validate_knative(component: ComponentSpec, path: str) -> Iterator[FieldError]:
    if component.scaleMetric is not None and component.scaleMetric not in _KNATIVE_METRICS:
        yield not_supported(f"{path}.scaleMetric", component.scaleMetric, _KNATIVE_METRICS)
    # Knative refuses targets below 0.01, so no whole number below 1 can work; KServe says so for rps only.
    if component.scaleTarget is not None and component.scaleTarget < 1:
        yield invalid(f"{path}.scaleTarget", component.scaleTarget, "must be 1 or more")


def _validate_hpa(component: ComponentSpec, path: str) -> Iterator[FieldError]:
    metric, target = component.scaleMetric, component.scaleTarget
    if metric is not None and metric not in _HPA_METRICS:
        yield not_supported(f"{path}.scaleMetric", metric, _HPA_METRICS)
    elif metric == "memory" and target is not None and target < 1:
        yield invalid(f"{path}.scaleTarget", target, "a memory target must be 1 MiB or more")
    elif metric != "memory" and target is not None and not 1 <= target <= 100:
        yield invalid(f"{path}.scaleTarget", target, "the target utilization must be in [1, 100] percent")
    for position, entry in _metrics(component):
        if entry.get("type") != "Resource":
            yield not_supported(f"{path}.autoScaling.metrics[{position}].type", entry.get("type", ""), ("Resource",))


def _validate_keda(component: ComponentSpec, path: str) -> Iterator[FieldError]:
    if component.scaleMetric is not None:
        yield forbidden(f"{path}.scaleMetric", "with KEDA the metrics stand in autoScaling.metrics")
    for position, entry in _metrics(component):
        where = f"{path}.autoScaling.metrics[{position}]"
        match entry.get("type"):
            case "Resource":
                yield from _validate_keda_resource(entry.get("resource") or {}, f"{where}.resource")
            case "External" | "PodMetric" as kind:
                source = "external" if kind == "External" else "podmetric"
                yield from _validate_keda_query(entry.get(source) or {}, f"{where}.{source}")


def _validate_keda_resource(resource: JsonObject, path: str) -> Iterator[FieldError]:
    target = resource.get("target") or {}
    name, kind = resource.get("name"), target.get("type")
    if name == "cpu" and kind != "Utilization":
        yield not_supported(f"{path}.target.type", kind or "", ("Utilization",))
    if name == "memory" and kind not in ("AverageValue", "Utilization"):
        yield not_supported(f"{path}.target.type", kind or "", ("AverageValue", "Utilization"))
    average = target.get("averageValue")
    if name == "memory" and kind == "AverageValue" and average is not None:
        try:
            enough = parse_quantity(average) >= _MEBIBYTE
        except ValueError:
            enough = False
        if not enough:
            yield invalid(f"{path}.target.averageValue", average, "must be 1Mi or more")


def _validate_keda_query(source: JsonObject, path: str) -> Iterator[FieldError]:
    if not (source.get("metric") or {}).get("query"):
        yield required(f"{path}.metric.query")
    if (source.get("target") or {}).get("value") is None:
        yield required(f"{path}.target.value")


def _metrics(component: ComponentSpec) -> Iterator[tuple[int, JsonObject]]:
    yield from enumerate((component.autoScaling or {}).get("metrics") or ())
