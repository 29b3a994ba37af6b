"""A revision's PodAutoscaler and ServerlessService: their specs and what they report (pure).

The autoscaler and the revision reconciler share one process and need no object to talk to each other; these two are for
people and programs that look at Knative's. So they are written once there is something to say, not at every step on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.api.core import Endpoints
from controller.api.knative import PodAutoscaler, Revision, ServerlessService
from controller.api.meta import owner_reference
from controller.base.clock import parse_rfc3339
from controller.base.json import JsonObject
from controller.base.names import ROUTING_STATE_LABEL
from controller.kube.resources import POD_AUTOSCALERS, SERVERLESS_SERVICES
from controller.reconcile.plan import Child, Plan
from onebox.knative.autoscaler.report import SCALE_UNKNOWN, ScaleReport
from onebox.knative.autoscaler.scaling import build_scaling
from onebox.knative.autoscaler.settings import HPA_CLASS
from onebox.knative.conditions import LivingConditions
from onebox.knative.metadata import revision_labels, service_annotations
from onebox.knative.names import CLASS_ANNOTATION, METRIC_ANNOTATION, deployment_name, private_service_name
from onebox.knative.revision.queue_proxy import is_h2c
from onebox.knative.settings import ServingSettings

ACTIVE, INITIALIZED, SKS_READY = "Active", "ScaleTargetInitialized", "SKSReady"
POPULATED, BACKED_BY_ACTIVATOR = "EndpointsPopulated", "ActivatorEndpointsPopulated"
SETTLE_S = 3.0
"""How long they wait for the first pods and the autoscaler's first decision: its tick, and a second."""
_ACTIVATORS_MIN = 2
"""Knative's: one may fail."""
_REACHABILITY = {"active": "Reachable", "reserve": "Unreachable"}
_NOT_READY = "K8s Service is not ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSnapshot:
    """What both objects of one revision are made from."""

    revision: Revision
    settings: ServingSettings
    report: ScaleReport | None
    pods: Endpoints | None
    """The Endpoints of the private Service."""
    autoscaler: PodAutoscaler
    now_s: float

    @property
    def has_pods(self) -> bool:
        return self.pods is not None and any(subset.addresses for subset in self.pods.subsets)

    @property
    def backed_by_activator(self) -> bool:
        return not self.has_pods or (self.report is not None and self.report.proxied)

    @property
    def is_decided(self) -> bool:
        """Whether the autoscaler knows what it wants; one that has just started does not, and takes nothing back."""
        return self.report is not None and self.report.want != SCALE_UNKNOWN

    @property
    def wait_s(self) -> float:
        """How long to wait for more to say; 0: now is the time."""
        if self.is_decided and self.report is not None and self.report.initialized:
            return 0.0
        created = self.autoscaler.metadata.creationTimestamp
        age_s = self.now_s - parse_rfc3339(created) if created else 0.0
        return max(0.0, SETTLE_S - age_s)


def build_pod_autoscaler(revision: Revision, settings: ServingSettings) -> JsonObject:
    """The PodAutoscaler of a revision."""
    meta, spec = revision.metadata, _common_spec(revision)
    chosen = _class_of(revision, settings)
    metric = "cpu" if chosen == HPA_CLASS else "concurrency"
    spec["reachability"] = _REACHABILITY.get(meta.labels.get(ROUTING_STATE_LABEL, ""), "Unknown")
    spec["scaleTargetRef"] = _target(revision)
    if revision.spec.containerConcurrency:
        spec["containerConcurrency"] = revision.spec.containerConcurrency
    annotations = service_annotations(revision, chosen)
    annotations[METRIC_ANNOTATION] = meta.annotations.get(METRIC_ANNOTATION, metric)
    return {
        "apiVersion": POD_AUTOSCALERS.api_version,
        "kind": POD_AUTOSCALERS.kind,
        "metadata": _metadata(revision, annotations, owner_reference(revision).to_json()),
        "spec": spec,
    }


def plan_pod_autoscaler(snapshot: ScaleSnapshot, existing: ServerlessService | None) -> Plan:
    """The ServerlessService and the status of a revision's PodAutoscaler."""
    if existing is None and snapshot.wait_s > 0:
        return Plan(requeue_after_s=snapshot.wait_s)
    if existing is not None and snapshot.autoscaler.status.conditions and not snapshot.is_decided:
        return Plan(keep_children=True)
    child = Child(resource=SERVERLESS_SERVICES, manifest=build_serverless_service(snapshot))
    return Plan(children=(child,), status=_autoscaler_status(snapshot))


def plan_serverless_service(snapshot: ScaleSnapshot, service: ServerlessService) -> Plan:
    """The status of a revision's ServerlessService."""
    if service.status.conditions and not snapshot.is_decided:
        return Plan()
    conditions = LivingConditions((POPULATED,), service.status.conditions, now_s=snapshot.now_s)
    if snapshot.has_pods:
        conditions.mark_true(POPULATED)
    else:
        conditions.mark_unknown(POPULATED, "NoHealthyBackends", _NOT_READY)
    if snapshot.backed_by_activator:
        conditions.mark_true(BACKED_BY_ACTIVATOR, BACKED_BY_ACTIVATOR, "Revision is backed by Activator")
    else:
        conditions.mark_false(BACKED_BY_ACTIVATOR, "PodEndpointsPopulated", "Revision is backed by its pods")
    name = snapshot.revision.metadata.name
    return Plan(
        status={
            "observedGeneration": service.metadata.generation,
            "conditions": [condition.to_json() for condition in conditions.result()],
            "serviceName": name,
            "privateServiceName": private_service_name(name),
        }
    )


def build_serverless_service(snapshot: ScaleSnapshot) -> JsonObject:
    """The ServerlessService of a revision."""
    revision, report = snapshot.revision, snapshot.report
    annotations = service_annotations(revision, _class_of(revision, snapshot.settings))
    spec = _common_spec(revision) | {
        "mode": "Proxy" if report is None or report.proxied else "Serve",
        "numActivators": decide_activators(snapshot),
        "objectRef": _target(revision),
    }
    return {
        "apiVersion": SERVERLESS_SERVICES.api_version,
        "kind": SERVERLESS_SERVICES.kind,
        "metadata": _metadata(revision, annotations, owner_reference(snapshot.autoscaler).to_json()),
        "spec": spec,
    }


def decide_activators(snapshot: ScaleSnapshot) -> int:
    """How many activators Knative would use: enough for what the pods and the wished burst can take (spec/knative.md 2.6).

    Here there is always one; the number is shown for what it would be.
    """
    revision, settings = snapshot.revision, snapshot.settings.scale
    decider = build_scaling(
        revision.metadata.annotations,
        revision.spec.containerConcurrency or 0,
        reachable=True,
        settings=settings,
    ).decider
    if decider.target_burst_capacity == 0:
        return _ACTIVATORS_MIN
    ready = snapshot.report.ready if snapshot.report is not None else 0
    capacity = ready * decider.total + max(decider.target_burst_capacity, 0)
    return max(_ACTIVATORS_MIN, math.ceil(capacity / settings.activator_capacity))


def _autoscaler_status(snapshot: ScaleSnapshot) -> JsonObject:
    report, autoscaler = snapshot.report, snapshot.autoscaler
    dependents = (ACTIVE, INITIALIZED, SKS_READY)
    conditions = LivingConditions(dependents, autoscaler.status.conditions, now_s=snapshot.now_s)
    if snapshot.has_pods:
        conditions.mark_true(SKS_READY)
    else:
        conditions.mark_unknown(SKS_READY, "NotReady", _NOT_READY)
    if report is not None:
        if report.initialized:
            conditions.mark_true(INITIALIZED)
        conditions.mark(ACTIVE, report.activity.value, report.reason, report.message)
    name = snapshot.revision.metadata.name
    return {
        "observedGeneration": autoscaler.metadata.generation,
        "conditions": [condition.to_json() for condition in conditions.result()],
        "desiredScale": report.want if report is not None else SCALE_UNKNOWN,
        "actualScale": report.ready if report is not None else 0,
        "serviceName": name,
        "metricsServiceName": private_service_name(name),
    }


def _common_spec(revision: Revision) -> JsonObject:
    return {"protocolType": "h2c" if is_h2c(revision) else "http1"}


def _target(revision: Revision) -> JsonObject:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment_name(revision.metadata.name)}


def _class_of(revision: Revision, settings: ServingSettings) -> str:
    return revision.metadata.annotations.get(CLASS_ANNOTATION, settings.scale.pod_autoscaler_class)


def _metadata(revision: Revision, annotations: dict[str, str], owner: JsonObject) -> JsonObject:
    meta = revision.metadata
    return {
        "name": meta.name,
        "namespace": meta.namespace,
        "labels": revision_labels(revision),
        "annotations": annotations,
        "ownerReferences": [owner],
    }
