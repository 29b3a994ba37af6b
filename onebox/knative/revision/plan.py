"""What one revision should lead to: Deployment, PodAutoscaler, Services, Endpoints and status (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.api.core import Endpoints
from controller.api.knative import Revision
from controller.base.json import JsonObject, JsonView
from controller.kube.resources import DEPLOYMENTS, ENDPOINTS, POD_AUTOSCALERS, SERVICES
from controller.reconcile.plan import Child, Plan
from onebox.knative.names import FIELD_MANAGER
from onebox.knative.pod_autoscaler.plan import build_pod_autoscaler
from onebox.knative.revision.deployment import build_deployment, initial_scale
from onebox.knative.revision.services import (
    build_private_service,
    build_public_endpoints,
    build_public_service,
    decide_proxied,
    decide_subsets,
)
from onebox.knative.revision.status import Workload, build_revision_status
from onebox.knative.settings import ServingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionSnapshot:
    """All that one decision about a revision looks at."""

    revision: Revision
    settings: ServingSettings
    workload: Workload
    pods: Endpoints | None
    """The Endpoints of the private Service."""
    deployment: JsonView | None
    """The Deployment as it is stored, with who owns which field."""
    public: JsonView | None
    """The Endpoints of the public Service, as they are stored."""
    activator_port: int
    now_s: float


def plan_revision(snapshot: RevisionSnapshot) -> Plan:
    """Children and status; nothing is touched where somebody else's Deployment has our name."""
    revision, settings = snapshot.revision, snapshot.settings
    status = build_revision_status(
        revision,
        snapshot.workload,
        schedulable=settings.deployment.pod_is_always_schedulable,
        now_s=snapshot.now_s,
    )
    not_ours = any(condition.get("reason") == "NotOwned" for condition in status["conditions"])
    return Plan(children=tuple(_children(snapshot)), keep_children=not_ours, status=status)


def _children(snapshot: RevisionSnapshot) -> Iterator[Child]:
    revision, settings = snapshot.revision, snapshot.settings
    deployment = build_deployment(revision, settings, replicas=_replicas(snapshot))
    yield Child(resource=DEPLOYMENTS, manifest=deployment)
    yield Child(resource=POD_AUTOSCALERS, manifest=build_pod_autoscaler(revision, settings))
    yield Child(resource=SERVICES, manifest=build_public_service(revision, settings))
    yield Child(resource=SERVICES, manifest=build_private_service(revision, settings))
    report = snapshot.workload.report
    proxied = decide_proxied(report, snapshot.public, activator_port=snapshot.activator_port)
    subsets = decide_subsets(revision, snapshot.pods, proxied=proxied, activator_port=snapshot.activator_port)
    # No route leads to a revision before it was ready once, so that until then nobody misses its Endpoints.
    ready = snapshot.pods is not None and any(subset.addresses for subset in snapshot.pods.subsets)
    if snapshot.public is not None or ready or (report is not None and report.initialized):
        yield Child(resource=ENDPOINTS, manifest=build_public_endpoints(revision, settings, subsets))


def _replicas(snapshot: RevisionSnapshot) -> int | None:
    """What to write: the initial scale at first, then the stored number while it is still ours, then nothing.

    An apply that leaves out a field which only we own would remove it, and the API server would fill in 1.
    """
    live = snapshot.deployment
    if live is None:
        return initial_scale(snapshot.revision, snapshot.settings)
    return snapshot.workload.replicas if _owns_replicas(live) else None


def _owns_replicas(live: JsonView) -> bool:
    entries: list[Mapping[str, Any]] = live["metadata"].get("managedFields") or []
    return any(
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and "f:replicas" in _spec_fields(entry.get("fieldsV1") or {})
        for entry in entries
    )


def _spec_fields(fields: JsonView) -> JsonObject:
    found: JsonObject = fields.get("f:spec") or {}
    return found
