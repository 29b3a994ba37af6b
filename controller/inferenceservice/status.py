"""The status of an InferenceService: what its children and pods come to (spec/kserve.md 2.10). (pure)"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from controller.api.defaulting import KNATIVE_MODE
from controller.api.inferenceservice import ComponentStatus, InferenceServiceStatus, ModelStatus
from controller.api.knative import Addressable, Service, is_observed, is_ready
from controller.api.meta import Condition
from controller.api.servingruntime import ServingRuntime
from controller.api.validation import mode_of
from controller.base.errors import UserError
from controller.base.json import JsonObject
from controller.inferenceservice.components import Component, ComponentKind
from controller.inferenceservice.conditions import (
    FALSE,
    INGRESS_READY,
    LATEST_DEPLOYMENT_READY,
    PREDICTOR_READY,
    READY,
    ROUTES_READY,
    STOPPED,
    TRUE,
    UNKNOWN,
    conclude,
    condition,
)
from controller.inferenceservice.hosts import ServiceHosts
from controller.inferenceservice.model_status import failed, refuse_model
from controller.inferenceservice.snapshot import Snapshot
from controller.inferenceservice.traffic import follow_rollout

_STOPPED_REASON: Final = "Stopped"
_OUT_OF_DATE: Final = "OutOfDate"
"""Knative's word for a child that has not seen the latest change."""
_KEPT: Final = ("url", "address", "servingRuntimeName", "clusterServingRuntimeName")
"""What a service that cannot be reconciled still says about what it serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentView:
    """A component with what runs for it now."""

    component: Component
    live: Service | None
    status: ComponentStatus

    @property
    def is_ready(self) -> bool:
        ready = self.condition(READY)
        return ready is not None and ready.status == TRUE

    def condition(self, type_: str) -> Condition | None:
        """What Knative says; Unknown as long as it speaks of an older specification."""
        found = self.live.status.condition(type_) if self.live is not None else None
        if self.live is None or found is None or is_observed(self.live):
            return found
        message = f"The Knative Service {self.live.metadata.name} does not reflect the latest specification yet."
        return condition(type_, UNKNOWN, reason=_OUT_OF_DATE, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """How far the service's own names are: None as `hosts` where no component has a URL yet."""

    hosts: ServiceHosts | None
    route_to: Component | None
    """Where the VirtualService should lead; None while there should be none."""
    is_routed: bool
    """Whether it leads to the component that requests should enter at."""
    refusal: str = ""
    """Why the gateway does not take the VirtualService."""
    waits_for: ComponentKind | None = None
    """The component whose readiness has to come first."""
    waits_status: str = UNKNOWN


def view_components(snapshot: Snapshot) -> tuple[ComponentView, ...]:
    """The service's components with their status as the Knative Services show it."""
    return tuple(
        ComponentView(component=item, live=snapshot.live(item), status=_component_status(snapshot, item))
        for item in snapshot.components
    )


def build_status(
    snapshot: Snapshot,
    views: Sequence[ComponentView],
    ingress: Ingress,
    *,
    model: ModelStatus,
    runtime: ServingRuntime | None,
) -> InferenceServiceStatus:
    """The status of a service whose children are as they should be, or on their way."""
    before = snapshot.service.status
    found = [
        *(item for view in views for item in _component_conditions(view, model)),
        *_aggregates(views),
        _ingress_condition(ingress),
        condition(STOPPED, FALSE),
    ]
    status: JsonObject = {
        "observedGeneration": snapshot.service.metadata.generation,
        "conditions": conclude(found, before.conditions, snapshot.now_s),
        "components": {str(view.component.kind): view.status for view in views},
        "modelStatus": model,
        "deploymentMode": KNATIVE_MODE,
    }
    if runtime is not None:
        name = "clusterServingRuntimeName" if runtime.is_cluster_wide else "servingRuntimeName"
        status[name] = runtime.metadata.name
    if ingress.hosts is not None and ingress.is_routed:
        status["url"] = ingress.hosts.url
        status["address"] = Addressable(url=f"http://{ingress.hosts.internal}")
    return InferenceServiceStatus(**status)


def build_blocked_status(
    snapshot: Snapshot, views: Sequence[ComponentView], error: UserError
) -> InferenceServiceStatus:
    """The status of a service that cannot be brought to what its spec says; what serves goes on, and stays in the status."""
    before = snapshot.service.status
    # Stopped=False stays, Stopped=True would be wrong: the service is to run.
    kept = {
        item.type: item
        for item in before.conditions
        if item.type != READY and (item.type, item.status) != (STOPPED, TRUE)
    }
    kept.setdefault(INGRESS_READY, condition(INGRESS_READY, UNKNOWN))
    kept[PREDICTOR_READY] = condition(PREDICTOR_READY, FALSE, reason=error.reason, message=error.message)
    status: JsonObject = {name: getattr(before, name) for name in _KEPT if name in before.model_fields_set}
    components = {str(view.component.kind): view.status for view in views if view.live is not None}
    if components:
        status["components"] = components
    return InferenceServiceStatus(
        **status,
        observedGeneration=snapshot.service.metadata.generation,
        conditions=conclude(kept.values(), before.conditions, snapshot.now_s),
        modelStatus=refuse_model(before.modelStatus, error),
        deploymentMode=before.deploymentMode or mode_of(snapshot.service),
    )


def build_stopped_status(snapshot: Snapshot) -> InferenceServiceStatus:
    """The status of a service of which nothing runs, by its owner's wish."""
    before = snapshot.service.status
    found = [condition(type_, FALSE, reason=_STOPPED_REASON) for type_ in (INGRESS_READY, PREDICTOR_READY)]
    names = ("servingRuntimeName", "clusterServingRuntimeName")
    return InferenceServiceStatus(
        **{name: getattr(before, name) for name in names if name in before.model_fields_set},
        observedGeneration=snapshot.service.metadata.generation,
        conditions=conclude([*found, condition(STOPPED, TRUE)], before.conditions, snapshot.now_s),
        modelStatus=ModelStatus(transitionStatus=""),
        deploymentMode=before.deploymentMode or mode_of(snapshot.service),
    )


def _component_status(snapshot: Snapshot, component: Component) -> ComponentStatus:
    before, live = snapshot.status_of(component), snapshot.live(component)
    if live is None:  # Its revisions are gone with it, and what counted as stable among them.
        return ComponentStatus()
    changes: JsonObject = {}
    if live.status.latestCreatedRevisionName:
        changes["latestCreatedRevision"] = live.status.latestCreatedRevisionName
    if live.status.latestReadyRevisionName:
        changes["latestReadyRevision"] = live.status.latestReadyRevisionName
    if live.status.traffic is not None:
        changes["traffic"] = live.status.traffic
    if is_ready(live):  # Before, the names lead nowhere.
        names = {"url": live.status.url, "address": live.status.address}
        changes |= {name: value for name, value in names.items() if value is not None}
    return follow_rollout(before.replace(**changes), live)


def _component_conditions(view: ComponentView, model: ModelStatus) -> Iterable[Condition]:
    kind = view.component.kind
    failure = failed(model) if kind is ComponentKind.PREDICTOR else None
    if failure is not None and not view.status.latestReadyRevision:
        # Knative goes on hoping until its progress deadline; nothing answers, and we know why.
        yield condition(PREDICTOR_READY, FALSE, reason=failure.reason, message=failure.message)
    else:
        yield _copied(f"{kind.word}Ready", view.condition(READY))
    if view.live is None or not view.live.status.conditions:
        return
    yield _copied(_route_condition(kind), view.condition("RoutesReady"))
    yield _copied(f"{kind.word}ConfigurationReady", view.condition("ConfigurationsReady"))


def _route_condition(kind: ComponentKind) -> str:
    # KServe's spelling differs for the explainer.
    return "ExplainerRoutesReady" if kind is ComponentKind.EXPLAINER else f"{kind.word}RouteReady"


def _copied(type_: str, item: Condition | None) -> Condition:
    if item is None:
        return condition(type_, UNKNOWN)
    return condition(type_, item.status, reason=item.reason, message=item.message)


def _aggregates(views: Sequence[ComponentView]) -> Iterable[Condition]:
    """RoutesReady and LatestDeploymentReady; where several components are not ready, the last one gives the reason."""
    if all(view.live is None or not view.live.status.conditions for view in views):
        return
    for type_, source in ((ROUTES_READY, "RoutesReady"), (LATEST_DEPLOYMENT_READY, "ConfigurationsReady")):
        result = condition(type_, TRUE)
        for view in views:
            item = view.condition(source)
            status = item.status if item is not None else UNKNOWN
            if status != TRUE:
                kind = view.component.kind
                name = _route_condition(kind) if type_ == ROUTES_READY else f"{kind.word}ConfigurationReady"
                result = condition(type_, status, reason=f"{name} not ready")
        yield result


def _ingress_condition(ingress: Ingress) -> Condition:
    if ingress.is_routed:
        return condition(INGRESS_READY, TRUE)
    if ingress.refusal:
        return condition(INGRESS_READY, FALSE, reason="VirtualServiceRefused", message=ingress.refusal)
    if ingress.waits_for is None:
        return condition(INGRESS_READY, UNKNOWN)
    return condition(INGRESS_READY, ingress.waits_status, reason=f"{ingress.waits_for.word} ingress not created")
