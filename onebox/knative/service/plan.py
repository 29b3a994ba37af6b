"""What one Knative Service should lead to: its Configuration, its Route, and a status made of theirs (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.knative import API_VERSION, Configuration, Revision, Route, Service, TrafficTarget
from controller.api.meta import Resource, owner_reference
from controller.base.json import JsonObject
from controller.base.names import KSVC_LABEL, KSVC_UID_LABEL
from controller.kube.resources import CONFIGURATIONS, ROUTES
from controller.reconcile.plan import Child, Event, Plan
from onebox.knative.conditions import READY, TRUE, LivingConditions
from onebox.knative.configuration.plan import is_name_free
from onebox.knative.metadata import passed_on
from onebox.knative.names import ROLLOUT_DURATION, ROUTES_ANNOTATION

CONFIGURATIONS_READY, ROUTES_READY = "ConfigurationsReady", "RoutesReady"
_OUT_OF_DATE = "OutOfDate"
_CONFIGURATION_FIELDS = ("latestCreatedRevisionName", "latestReadyRevisionName")
_ROUTE_FIELDS = ("url", "address", "traffic")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot:
    """All that one decision about a Service looks at."""

    service: Service
    configuration: Configuration | None
    route: Route | None
    named: Revision | None
    """The revision with the name that the template gives, whoever it belongs to."""
    now_s: float


def plan_service(snapshot: ServiceSnapshot) -> Plan:
    """Both children and the status; where a child's name is taken by somebody else, nothing but the status."""
    service, configuration, route = snapshot.service, snapshot.configuration, snapshot.route
    dependents = (CONFIGURATIONS_READY, ROUTES_READY)
    conditions = LivingConditions(dependents, service.status.conditions, now_s=snapshot.now_s)
    fields = _fields(service)
    for child, condition in ((configuration, CONFIGURATIONS_READY), (route, ROUTES_READY)):
        if child is not None and not _owns(service, child):
            return _not_owned(snapshot, conditions, child, condition)
    children = [Child(resource=CONFIGURATIONS, manifest=build_configuration(service, configuration))]
    _propagate_configuration(conditions, fields, configuration)
    if _may_route(snapshot, conditions):
        children.append(Child(resource=ROUTES, manifest=build_route(service)))
        _propagate_route(conditions, fields, configuration, route)
    return Plan(children=tuple(children), status=_status(service, conditions, fields))


def build_configuration(service: Service, existing: Configuration | None) -> JsonObject:
    """The Configuration of a Service; routes that others have pointed at it stay in its annotation."""
    meta = service.metadata
    annotations = passed_on(meta.annotations, *ROLLOUT_DURATION)
    routes = {meta.name}
    if existing is not None:
        routes |= set(filter(None, existing.metadata.annotations.get(ROUTES_ANNOTATION, "").split(",")))
    annotations[ROUTES_ANNOTATION] = ",".join(sorted(routes))
    labels = {**meta.labels, KSVC_LABEL: meta.name, KSVC_UID_LABEL: meta.uid}
    return _child(service, "Configuration", labels, annotations, {"template": service.spec.template.to_json()})


def build_route(service: Service) -> JsonObject:
    """The Route of a Service: targets without a revision mean the Service's Configuration."""
    meta = service.metadata
    traffic = [_target(target, meta.name) for target in service.spec.traffic]
    labels = {**meta.labels, KSVC_LABEL: meta.name}
    return _child(service, "Route", labels, passed_on(meta.annotations), {"traffic": traffic})


def _target(target: TrafficTarget, configuration: str) -> JsonObject:
    found = target.to_json()
    return found if target.revisionName else {**found, "configurationName": configuration}


def _child(
    service: Service, kind: str, labels: dict[str, str], annotations: dict[str, str], spec: JsonObject
) -> JsonObject:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": service.metadata.name,
            "namespace": service.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner_reference(service).to_json()],
        },
        "spec": spec,
    }


def _owns(service: Service, child: Resource) -> bool:
    return any(owner.controller and owner.uid == service.metadata.uid for owner in child.metadata.ownerReferences)


def _not_owned(snapshot: ServiceSnapshot, conditions: LivingConditions, child: Resource, condition: str) -> Plan:
    message = f'There is an existing {child.kind} "{child.metadata.name}" that we do not own.'
    conditions.mark_false(condition, "NotOwned", message)
    status = _status(snapshot.service, conditions, _fields(snapshot.service))
    return Plan(keep_children=True, status=status, events=(Event(type="Warning", reason="NotOwned", message=message),))


def _propagate_configuration(
    conditions: LivingConditions, fields: JsonObject, configuration: Configuration | None
) -> None:
    if configuration is None or configuration.metadata.generation != configuration.status.observedGeneration:
        message = "The Configuration is still working to reflect the latest desired specification."
        conditions.mark_unknown(CONFIGURATIONS_READY, _OUT_OF_DATE, message)
        return
    _copy(fields, configuration.status.to_json(), _CONFIGURATION_FIELDS)
    if ready := configuration.status.condition(READY):
        conditions.mark(CONFIGURATIONS_READY, ready.status, ready.reason or "", ready.message or "")


def _may_route(snapshot: ServiceSnapshot, conditions: LivingConditions) -> bool:
    """Whether the Route may follow now; with a revision name of the user's own, only after that name is settled."""
    name = snapshot.service.spec.template.metadata.name
    configuration = snapshot.configuration
    if not name:
        return True
    if configuration is None or configuration.metadata.generation != configuration.status.observedGeneration:
        return False
    if is_name_free(configuration, snapshot.named):
        return True
    message = f'The revision name "{name}" is taken by a conflicting Revision, so traffic will not be migrated'
    conditions.mark_false(ROUTES_READY, "RevisionNameTaken", message)
    return False


def _propagate_route(
    conditions: LivingConditions, fields: JsonObject, configuration: Configuration | None, route: Route | None
) -> None:
    if route is None or route.metadata.generation != route.status.observedGeneration:
        message = "The Route is still working to reflect the latest desired specification."
        conditions.mark_unknown(ROUTES_READY, _OUT_OF_DATE, message)
        return
    _copy(fields, route.status.to_json(), _ROUTE_FIELDS)
    if ready := route.status.condition(READY):
        conditions.mark(ROUTES_READY, ready.status, ready.reason or "", ready.message or "")
    if conditions.status(ROUTES_READY) == TRUE and not _has_migrated(configuration, route):
        message = "Traffic is not yet migrated to the latest revision."
        conditions.mark_unknown(ROUTES_READY, "TrafficNotMigrated", message)


def _has_migrated(configuration: Configuration | None, route: Route) -> bool:
    latest = configuration.status.latestReadyRevisionName if configuration is not None else None
    wanted = [(target.tag or "", target.revisionName or latest, target.percent or 0) for target in route.spec.traffic]
    found = [(target.tag or "", target.revisionName, target.percent or 0) for target in route.status.traffic or ()]
    return wanted == found


def _copy(fields: JsonObject, source: JsonObject, names: tuple[str, ...]) -> None:
    for name in names:
        fields.pop(name, None)
        if name in source:
            fields[name] = source[name]


def _fields(service: Service) -> JsonObject:
    status = service.status.to_json()
    return {name: status[name] for name in (*_CONFIGURATION_FIELDS, *_ROUTE_FIELDS) if name in status}


def _status(service: Service, conditions: LivingConditions, fields: JsonObject) -> JsonObject:
    found = [condition.to_json() for condition in conditions.result()]
    return {"observedGeneration": service.metadata.generation, "conditions": found, **fields}
