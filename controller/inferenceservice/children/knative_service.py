"""The Knative Service of one component (spec/kserve.md 2.3, 2.5). (pure)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from controller.api import knative
from controller.api.core import PodSpec
from controller.api.inferenceservice import ComponentSpec, InferenceService
from controller.api.knative import TrafficTarget
from controller.api.meta import owner_reference
from controller.base.json import JsonObject, JsonView
from controller.inferenceservice.children.pods import Workload
from controller.inferenceservice.components import Component
from controller.inferenceservice.config import Settings
from controller.kube.resources import KNATIVE_SERVICES
from controller.reconcile.plan import Child

INITIAL_SCALE: Final = "autoscaling.knative.dev/initial-scale"
_SCALING: Final = "autoscaling.knative.dev/"
_KPA_CLASS: Final = "kpa.autoscaling.knative.dev"
_SERVICE_ANNOTATIONS: Final = ("serving.knative.dev/rollout-duration", "serving.knative.openshift.io/enablePassthrough")
"""Annotations that Knative reads at the Service and not at its revisions."""
_SCRAPING: Final = "serving.kserve.io/enable-prometheus-scraping"
_SCRAPED: Final = {"prometheus.io/port": "9091", "prometheus.io/path": "/metrics"}
"""Where Knative's queue-proxy shows its metrics; KServe's pod webhook writes the same."""
_POD_FIELDS: Final = frozenset({
    "affinity", "automountServiceAccountToken", "containers", "dnsConfig", "dnsPolicy", "enableServiceLinks", "hostAliases",
    "hostIPC", "hostNetwork", "hostPID", "imagePullSecrets", "initContainers", "nodeSelector", "priorityClassName",
    "runtimeClassName", "schedulerName", "securityContext", "serviceAccountName", "shareProcessNamespace", "tolerations",
    "topologySpreadConstraints", "volumes",
})  # fmt: skip
"""What a revision's pod can say in Knative's schema. KServe hands over all of a pod spec, and the schema drops the rest."""


def build_knative_service(
    service: InferenceService,
    component: Component,
    workload: Workload,
    *,
    traffic: Iterable[TrafficTarget],
    settings: Settings,
) -> Child:
    """The child that runs `workload` and splits its requests by `traffic`."""
    labels = {
        **workload.labels,
        **service.metadata.labels,
        **component.spec.labels,
        **component.own_labels,
    }
    given = service.metadata.annotations
    meta: JsonObject = {
        "name": component.child_name,
        "namespace": component.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(service).to_json()],
    }
    kept = {name: given[name] for name in _SERVICE_ANNOTATIONS if name in given}
    if kept:
        meta["annotations"] = kept
    template = {
        "metadata": {
            "labels": {name: value for name, value in labels.items() if name not in settings.labels_disallowed},
            "annotations": _annotations(given, component, workload, settings),
        },
        "spec": _revision_spec(component.spec, workload.pod),
    }
    spec = {"template": template, "traffic": [target.to_json() for target in traffic]}
    manifest = {"apiVersion": knative.API_VERSION, "kind": "Service", "metadata": meta, "spec": spec}
    return Child(resource=KNATIVE_SERVICES, manifest=manifest)


def _annotations(
    given: Mapping[str, str], component: Component, workload: Workload, settings: Settings
) -> Mapping[str, str]:
    merged: dict[str, str] = {}
    for layer in (workload.annotations, given, component.spec.annotations):
        merged |= {name: value for name, value in layer.items() if name not in settings.annotations_disallowed}
    if not _is_initial_scale(merged.get(INITIAL_SCALE), zero_allowed=settings.zero_initial_scale_allowed):
        merged.pop(INITIAL_SCALE, None)
    merged.setdefault(f"{_SCALING}class", _KPA_CLASS)
    if merged.get(_SCRAPING, str(settings.prometheus_scraping)).lower() == "true":
        merged |= _SCRAPED
    return merged | _scaling(component.spec)


def _scaling(spec: ComponentSpec) -> dict[str, str]:
    scaling = {"min-scale": str(1 if spec.minReplicas is None else spec.minReplicas)}
    if spec.maxReplicas:
        scaling["max-scale"] = str(spec.maxReplicas)
    if spec.scaleTarget is not None:
        scaling["target"] = str(spec.scaleTarget)
    if spec.scaleMetric is not None:
        scaling["metric"] = spec.scaleMetric
    return {f"{_SCALING}{name}": value for name, value in scaling.items()}


def _is_initial_scale(value: str | None, *, zero_allowed: bool) -> bool:
    if value is None or not (value.isascii() and value.isdigit()):
        return False
    return zero_allowed or int(value) > 0


def _revision_spec(spec: ComponentSpec, pod: PodSpec) -> JsonObject:
    fields: JsonObject = {name: value for name, value in pod.to_json().items() if name in _POD_FIELDS}
    for list_name in ("containers", "initContainers"):
        if list_name in fields:
            fields[list_name] = [_with_resources(item) for item in fields[list_name]]
    if spec.containerConcurrency is not None:
        fields["containerConcurrency"] = spec.containerConcurrency
    if spec.timeout is not None:
        # KServe's one timeout is both: how long the whole answer and how long its first byte may take.
        fields["timeoutSeconds"] = spec.timeout
        fields["responseStartTimeoutSeconds"] = spec.timeout
    return fields


def _with_resources(item: JsonView) -> JsonObject:
    """The container with its amounts as Kubernetes stores them: text, and what is limited of a device also requested."""
    resources = item.get("resources") or {}
    if not resources:
        return {name: value for name, value in item.items() if name != "resources"}
    limits = {name: str(amount) for name, amount in (resources.get("limits") or {}).items()}
    requests = {name: str(amount) for name, amount in (resources.get("requests") or {}).items()}
    # Kubernetes does the same in each pod: devices (names with a domain) cannot be overcommitted.
    requests = {name: amount for name, amount in limits.items() if "/" in name} | requests
    amounts = {"limits": limits, "requests": requests}
    return {**item, "resources": {**resources, **{name: value for name, value in amounts.items() if value}}}
