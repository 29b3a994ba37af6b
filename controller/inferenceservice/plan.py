"""What an InferenceService leads to: the one decision that controller, `ladle render` and the tests share. (pure)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.api.defaulting import KNATIVE_MODE
from controller.api.inferenceservice import ExplainerSpec, InferenceService, InferenceServiceStatus
from controller.api.istio import RECONCILED
from controller.api.meta import Condition
from controller.api.validation import mode_of
from controller.base.errors import UserError
from controller.base.names import ISVC_FINALIZER
from controller.inferenceservice.ca_bundle import build_ca_bundle
from controller.inferenceservice.children.agent import add_agent
from controller.inferenceservice.children.ingress import build_external_name_service, build_virtual_service
from controller.inferenceservice.children.knative_service import build_knative_service
from controller.inferenceservice.children.pods import (
    Workload,
    build_art_pod,
    build_custom_pod,
    build_model_pod,
    service_with_server_labels,
)
from controller.inferenceservice.children.storage import add_storage, confidential_variables
from controller.inferenceservice.components import Component, ComponentKind, is_stopped
from controller.inferenceservice.conditions import FALSE, READY, TRUE, UNKNOWN
from controller.inferenceservice.credentials import Access, Wanted, plan_access, plan_logger_access
from controller.inferenceservice.hosts import hosts_of
from controller.inferenceservice.model_status import failed, observe_model
from controller.inferenceservice.runtimes import RUNTIME_UNAVAILABLE, RuntimeChoice, select_runtime
from controller.inferenceservice.snapshot import Snapshot
from controller.inferenceservice.sources import confidential_of, sources_of
from controller.inferenceservice.status import (
    ComponentView,
    Ingress,
    build_blocked_status,
    build_status,
    build_stopped_status,
    view_components,
)
from controller.inferenceservice.traffic import split_traffic
from controller.reconcile.plan import Child, Event, Plan

DISABLE_AUTO_UPDATE_ANNOTATION: Final = "serving.kserve.io/disable-auto-update"
MODE_NOT_SUPPORTED: Final = "DeploymentModeNotSupported"
READY_EVENT: Final = "InferenceServiceReady"
NOT_READY_EVENT: Final = "InferenceServiceNotReady"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """The children of a service, and the runtime that its predictor got."""

    children: tuple[Child, ...]
    choice: RuntimeChoice | None
    uris: tuple[str, ...] = ()
    """The predictor's sources, in full."""


def plan_inference_service(snapshot: Snapshot) -> Plan:
    """The children, status and events that `snapshot` calls for; never fails for what a user wrote."""
    service = snapshot.service
    if service.metadata.deletionTimestamp is not None:
        # Owner references do the work. KServe's finalizer may stand on objects that it managed before.
        finalizers = tuple(name for name in service.metadata.finalizers if name != ISVC_FINALIZER)
        return Plan(keep_children=True, finalizers=finalizers)
    if is_stopped(service):
        return _with_status(snapshot, Plan(), build_stopped_status(snapshot))
    views = view_components(snapshot)
    ingress = _ingress(snapshot, views)
    try:
        if snapshot.refusal is not None:
            raise snapshot.refusal
        draft = _draft(snapshot, views, ingress)
    except UserError as error:  # A wrong spec must not tear down a revision that serves traffic.
        if error.reason == MODE_NOT_SUPPORTED or not _is_settled(service):
            return _with_status(snapshot, Plan(keep_children=True), build_blocked_status(snapshot, views, error), error)
        # What runs was made from this very spec and works; only a new revision could not be made now.
        draft = _Draft(children=(), choice=None)
    keep = not draft.children or _is_frozen(service)
    model = observe_model(
        service.status.modelStatus,
        views[0].live,
        pods=snapshot.pods,
        uris=draft.uris,
        all_ready=ingress.waits_for is None,
    )
    status = build_status(
        snapshot, views, ingress, model=model, runtime=draft.choice.runtime if draft.choice is not None else None
    )
    if not draft.children:
        status = _with_known_runtime(status, service.status)
    return _with_status(snapshot, Plan(children=draft.children, keep_children=keep), status)


def _draft(snapshot: Snapshot, views: Sequence[ComponentView], ingress: Ingress) -> _Draft:
    service, settings = snapshot.service, snapshot.settings
    mode = service.status.deploymentMode or mode_of(service)
    if mode != KNATIVE_MODE:
        message = f"deployment mode {mode} is not supported yet; without the annotation the mode is {KNATIVE_MODE}"
        raise UserError(MODE_NOT_SUPPORTED, message)
    choice, predictor = None, service.spec.predictor
    if predictor.model is not None:
        has_storage = bool(sources_of(predictor))
        choice = select_runtime(predictor.model, snapshot.runtimes, multi_node=predictor.workerSpec is not None)
        if choice.missing:
            name, format_name = choice.runtime.metadata.name, predictor.model.modelFormat.name
            raise UserError(
                RUNTIME_UNAVAILABLE, f'runtime {name} cannot serve modelFormat "{format_name}" here: {choice.missing}'
            )
        service = service_with_server_labels(service, choice, has_storage=has_storage)
    accesses = [_access(snapshot, view.component) for view in views]
    children = [
        _knative_service(snapshot, service, view, access, choice) for view, access in zip(views, accesses, strict=True)
    ]
    if snapshot.ca_bundle is not None and any(source for access in accesses for source in access.sources):
        children += build_ca_bundle(snapshot.ca_bundle, service.metadata.namespace)
    if not settings.ingress.disable_virtual_service:
        children.append(build_external_name_service(service, settings))
        if ingress.hosts is not None and ingress.route_to is not None:
            entry, explainer = ingress.route_to, _explainer(views)
            children.append(
                build_virtual_service(service, ingress.hosts, entry=entry, explainer=explainer, settings=settings)
            )
    return _Draft(children=tuple(children), choice=choice, uris=tuple(source.uri for source in accesses[0].sources))


def _access(snapshot: Snapshot, component: Component) -> Access:
    """How the component's initializer gets at its models."""
    access = plan_access(sources_of(component.spec), _wanted(snapshot, component))
    return replace(access, env=(*access.env, *confidential_variables(confidential_of(component.spec))))


def _logger_access(snapshot: Snapshot, component: Component) -> Access:
    """How the component's agent gets at the place that it stores its log at."""
    logger = component.spec.logger
    if logger is None or logger.storage is None:
        return Access(sources=())
    return plan_logger_access(logger.storage, _wanted(snapshot, component))


def _wanted(snapshot: Snapshot, component: Component) -> Wanted:
    return Wanted(
        annotations={**snapshot.service.metadata.annotations, **component.spec.annotations},
        account=component.spec.serviceAccountName,
        identities=snapshot.identities,
        settings=snapshot.settings.credentials,
        ca_bundle=snapshot.ca_bundle.config_map if snapshot.ca_bundle is not None else "",
    )


def _knative_service(
    snapshot: Snapshot,
    service: InferenceService,
    view: ComponentView,
    access: Access,
    choice: RuntimeChoice | None,
) -> Child:
    component, annotations = view.component, service.metadata.annotations
    workload = _workload(snapshot, service, component, choice, has_storage=bool(access.sources))
    pod = add_storage(
        workload.pod,
        access,
        annotations={**annotations, **component.spec.annotations},
        settings=snapshot.settings,
        storage_containers=snapshot.storage_containers,
    )
    pod = add_agent(
        pod, component, snapshot.settings.agent, annotations=annotations, access=_logger_access(snapshot, component)
    )
    return build_knative_service(
        service,
        component,
        Workload(pod=pod, labels=workload.labels, annotations=workload.annotations),
        traffic=split_traffic(component.spec, view.status, annotations),
        settings=snapshot.settings,
    )


def _workload(
    snapshot: Snapshot,
    service: InferenceService,
    component: Component,
    choice: RuntimeChoice | None,
    *,
    has_storage: bool,
) -> Workload:
    if component.kind is ComponentKind.PREDICTOR and choice is not None:
        return build_model_pod(service, choice, has_storage=has_storage)
    if isinstance(component.spec, ExplainerSpec) and component.spec.art is not None:
        return build_art_pod(component, component.spec.art, snapshot.settings)
    if not component.spec.containers:
        raise UserError("InvalidPredictorSpec", f"spec.{component.kind} has neither a model nor containers")
    return build_custom_pod(component)


def _entry(views: Sequence[ComponentView]) -> ComponentView:
    """The component that requests enter at: the transformer if there is one."""
    return next((view for view in views if view.component.kind is ComponentKind.TRANSFORMER), views[0])


def _explainer(views: Sequence[ComponentView]) -> Component | None:
    return next((view.component for view in views if view.component.kind is ComponentKind.EXPLAINER), None)


def _ingress(snapshot: Snapshot, views: Sequence[ComponentView]) -> Ingress:
    """How far the service's own names are. Once they lead somewhere they stay, whatever becomes of a new revision."""
    entry = _entry(views)
    waits = next((view for view in views if not view.is_ready), None)
    routed = _routed(snapshot, views)
    url = entry.status.url or (entry.live.status.url if entry.live is not None else None)
    hosts = hosts_of(snapshot.service, entry.component, url, snapshot.settings) if url else None
    ready = waits.condition(READY) if waits is not None else None
    is_routed = waits is None if snapshot.settings.ingress.disable_virtual_service else routed is entry
    word = _gateway_word(snapshot)
    # A transformer that is new gets requests once it is ready; until then the predictor goes on answering.
    to = entry if waits is None else routed
    return Ingress(
        hosts=hosts,
        route_to=to.component if to is not None else None,
        is_routed=is_routed and hosts is not None and word.status == TRUE,
        refusal=word.message or "" if word.status == FALSE else "",
        waits_for=waits.component.kind if waits is not None else None,
        waits_status=ready.status if ready is not None else UNKNOWN,
    )


def _gateway_word(snapshot: Snapshot) -> Condition:
    """What the gateway says of the route; where nobody asks it, or it never speaks, that all is well."""
    live, settings = snapshot.virtual_service, snapshot.settings.ingress
    if live is None or settings.disable_virtual_service or not settings.await_reconciled:
        return Condition(type=RECONCILED, status=TRUE)
    return live.reconciled() or Condition(type=RECONCILED, status=UNKNOWN)


def _routed(snapshot: Snapshot, views: Sequence[ComponentView]) -> ComponentView | None:
    """The component that requests to the service's names reach now, the entry where that one is going away."""
    live = snapshot.virtual_service
    if live is None or live.metadata.deletionTimestamp is not None or not live.spec.http:
        return None
    # The last route is the one for all paths; routes before it are for explanations.
    host = live.spec.http[-1].headers.request.set.get("Host")
    domain = snapshot.settings.cluster_domain
    return next((view for view in views if view.component.local_host(domain) == host), _entry(views))


def _is_settled(service: InferenceService) -> bool:
    """Whether the children were made from this very spec and serve."""
    ready = service.status.condition(READY)
    is_ready = ready is not None and ready.status == TRUE
    return is_ready and service.status.observedGeneration == service.metadata.generation


def _is_frozen(service: InferenceService) -> bool:
    """Whether the service asked that a changed runtime does not change it."""
    frozen = service.metadata.annotations.get(DISABLE_AUTO_UPDATE_ANNOTATION, "").lower() == "true"
    return frozen and _is_settled(service)


def _with_known_runtime(status: InferenceServiceStatus, before: InferenceServiceStatus) -> InferenceServiceStatus:
    names = ("servingRuntimeName", "clusterServingRuntimeName")
    return status.replace(**{name: getattr(before, name) for name in names if getattr(before, name)})


def _with_status(
    snapshot: Snapshot, plan: Plan, status: InferenceServiceStatus, error: UserError | None = None
) -> Plan:
    events = []
    if error is not None:
        events.append(Event(type="Warning", reason=error.reason, message=error.message))
    failure, known = failed(status.modelStatus), failed(snapshot.service.status.modelStatus)
    if error is None and failure is not None and (known is None or known.message != failure.message):
        events.append(Event(type="Warning", reason=failure.reason, message=failure.message))
    before, after = snapshot.service.status.condition(READY), status.condition(READY)
    assert after is not None, "every status has Ready"
    was_ready = before is not None and before.status == TRUE
    name = snapshot.service.metadata.name
    if after.status == TRUE and not was_ready:
        events.append(Event(type="Normal", reason=READY_EVENT, message=f"InferenceService [{name}] is Ready"))
    if after.status == FALSE and was_ready:
        because = ", ".join(item.type for item in status.conditions if item.status == FALSE and item.severity != "Info")
        message = f"InferenceService [{name}] is no longer Ready because of: {because}"
        events.append(Event(type="Warning", reason=NOT_READY_EVENT, message=message))
    return Plan(children=plan.children, keep_children=plan.keep_children, status=status.to_json(), events=tuple(events))
