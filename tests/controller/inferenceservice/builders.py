"""Objects as tests need them: each function gives one that works, and takes what the test is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from controller.api import knative
from controller.api.core import Pod
from controller.api.inferenceservice import InferenceService
from controller.api.istio import VirtualService
from controller.api.servingruntime import ServingRuntime
from controller.inferenceservice.config import Settings
from controller.inferenceservice.plan import plan_inference_service
from controller.inferenceservice.snapshot import Snapshot, parse_service
from controller.reconcile.plan import Child, Plan

ROOT = Path(__file__).parents[3]
SHARED = ROOT / "../shared"
URI = "gs://bucket/iris"
NOW_S = 1_750_000_000.0


def manifest(
    predictor: Mapping[str, Any] | None = None,
    *,
    name: str = "iris",
    meta: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """An InferenceService as users write it; `predictor` is laid over the iris predictor's."""
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": URI}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "ns", "uid": "u-isvc", "generation": 1, **(meta or {})},
        "spec": {"predictor": {"model": model, **(predictor or {})}, **spec},
    }


def service(predictor: Mapping[str, Any] | None = None, **rest: Any) -> InferenceService:
    """The same as the controller sees it."""
    return parse_service(manifest(predictor, **rest), Settings())


def runtime(
    name: str = "rt",
    *formats: Mapping[str, Any],
    protocols: Iterable[str] = ("v1", "v2"),
    kind: str = "ClusterServingRuntime",
    created: str = "2026-01-01T00:00:00Z",
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> ServingRuntime:
    """A runtime for sklearn, unless formats are given."""
    container = {"name": "kserve-container", "image": f"example/{name}:1", "args": ["--model_name={{.Name}}"]}
    return ServingRuntime.parse(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": "" if kind.startswith("Cluster") else "ns",
                "creationTimestamp": created,
                "annotations": dict(annotations or {}),
            },
            "spec": {
                "supportedModelFormats": list(formats) or [{"name": "sklearn", "version": "1", "autoSelect": True}],
                "protocolVersions": list(protocols),
                "containers": [container],
                **spec,
            },
        }
    )


def knative_service(
    name: str = "iris-predictor",
    *,
    ready: str = "True",
    created: str = "",
    latest_ready: str | None = None,
    traffic: list[dict[str, Any]] | None = None,
    url: str | None = None,
    reason: str = "",
    message: str = "",
    generation: int = 1,
    observed: int | None = None,
) -> knative.Service:
    """A Knative Service with its status; by default its first revision serves everything, and nothing has changed since."""
    created = created or f"{name}-00001"
    if latest_ready is None:
        latest_ready = created if ready == "True" else ""
    said = {name: value for name, value in (("reason", reason), ("message", message)) if value}
    conditions = [{"type": type_, "status": ready, **said} for type_ in ("ConfigurationsReady", "Ready", "RoutesReady")]
    status: dict[str, Any] = {
        "observedGeneration": generation if observed is None else observed,
        "conditions": conditions,
        "url": url or f"http://{name}.ns.example.com",
        "address": {"url": f"http://{name}.ns.svc.cluster.local"},
        "latestCreatedRevisionName": created,
    }
    if latest_ready:
        status["latestReadyRevisionName"] = latest_ready
        status["traffic"] = traffic or [{"latestRevision": True, "revisionName": latest_ready, "percent": 100}]
    return knative.Service.parse(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "ns", "generation": generation},
            "status": status,
        }
    )


def virtual_service(to: str = "iris-predictor") -> VirtualService:
    """A VirtualService that leads to this component."""
    headers = {"request": {"set": {"Host": f"{to}.ns.svc.cluster.local"}}}
    return VirtualService.parse(
        {"metadata": {"name": "iris", "namespace": "ns"}, "spec": {"http": [{"headers": headers}]}}
    )


def container_status(
    name: str = "kserve-container",
    *,
    state: Mapping[str, Any] | None = None,
    last: Mapping[str, Any] | None = None,
    ready: bool = False,
) -> dict[str, Any]:
    return {"name": name, "ready": ready, "state": dict(state or {"running": {}}), "lastState": dict(last or {})}


def pod(
    *containers: Mapping[str, Any],
    init: Iterable[Mapping[str, Any]] = (),
    revision: str = "iris-predictor-00001",
    ready: bool = False,
    created: str = "2026-01-01T00:00:00Z",
    **meta: Any,
) -> Pod:
    """A pod of a revision with these container statuses."""
    return Pod.parse(
        {
            "metadata": {
                "name": f"{revision}-{created}",
                "namespace": "ns",
                "creationTimestamp": created,
                "labels": {"serving.knative.dev/revision": revision, "serving.kserve.io/inferenceservice": "iris"},
                **meta,
            },
            "status": {
                "conditions": [{"type": "Ready", "status": str(ready)}],
                "containerStatuses": list(containers),
                "initContainerStatuses": list(init),
            },
        }
    )


def snapshot(of: InferenceService | None = None, *live: knative.Service, **rest: Any) -> Snapshot:
    """A world with one runtime, the given Knative Services and whatever else is named."""
    found: dict[str, Any] = {"runtimes": (runtime(),), "now_s": NOW_S, **rest}
    return Snapshot(service=of or service(), knative_services={item.metadata.name: item for item in live}, **found)


def plan(of: InferenceService | None = None, *live: knative.Service, **rest: Any) -> Plan:
    return plan_inference_service(snapshot(of, *live, **rest))


def settle(of: InferenceService, *live: knative.Service, **rest: Any) -> InferenceService:
    """The service with the status that a plan for this world writes."""
    status = plan(of, *live, **rest).status
    assert status is not None
    return InferenceService.parse({**of.to_json(), "status": status})


def child(of: Plan, kind: str, *, group: str = "") -> dict[str, Any]:
    """The manifest of the one child of this kind."""
    found: list[Child] = [
        item for item in of.children if item.resource.kind == kind and (not group or item.resource.group == group)
    ]
    assert len(found) == 1, [item.manifest["metadata"]["name"] for item in of.children]
    return dict(found[0].manifest)


def knative_child(of: Plan, name: str = "iris-predictor") -> dict[str, Any]:
    """The manifest of a component's Knative Service."""
    return next(
        dict(item.manifest)
        for item in of.children
        if item.resource.group == "serving.knative.dev" and item.manifest["metadata"]["name"] == name
    )


def conditions(of: Plan) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition that a plan writes."""
    assert of.status is not None
    return {item["type"]: (item["status"], item.get("reason", "")) for item in of.status["conditions"]}
