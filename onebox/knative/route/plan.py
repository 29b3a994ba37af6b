"""What one Route should lead to: placeholder Services, a VirtualService, and its status (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controller.api.core import Service
from controller.api.knative import Configuration, Revision, Route
from controller.api.meta import owner_reference
from controller.base.errors import UserError
from controller.base.json import JsonObject
from controller.base.names import ROUTE_LABEL, VISIBILITY_LABEL
from controller.kube.resources import SERVICES, VIRTUAL_SERVICES
from controller.reconcile.plan import Child, Event, Plan
from onebox.knative.conditions import FALSE, LivingConditions
from onebox.knative.metadata import passed_on, without
from onebox.knative.revision.services import H2C_PROTOCOL
from onebox.knative.route.domains import RouteNames, resolve_visibility
from onebox.knative.route.ingress import build_rules, build_tag_hosts
from onebox.knative.route.rollout import (
    Rollout,
    next_step_s,
    plan_rollout,
    render_rollout,
    rollout_duration_s,
    split_traffic,
)
from onebox.knative.route.traffic import DEFAULT_TARGET, BadTarget, Lookup, RevisionTarget, Traffic, resolve_traffic
from onebox.knative.route.virtual_service import build_virtual_service
from onebox.knative.settings import ServingSettings
from onebox.knative.settings.domain import LOCAL_DOMAIN
from onebox.knative.settings.features import Feature

ALL_TRAFFIC_ASSIGNED, INGRESS_READY = "AllTrafficAssigned", "IngressReady"
CERTIFICATE_PROVISIONED = "CertificateProvisioned"
LOCAL_GATEWAY = f"knative-local-gateway.istio-system.{LOCAL_DOMAIN}"
"""What the placeholder Services are another name for: the gateway that only this machine sees."""
_GATEWAY_SERVICE_PORT = 80
_ROLLING = "A gradual rollout of the latest revision(s) is in progress."


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSnapshot:
    """All that one decision about a Route looks at."""

    route: Route
    settings: ServingSettings
    gateway_port: int
    configurations: Lookup[Configuration]
    revisions: Lookup[Revision]
    services: Lookup[Service]
    """Kubernetes' Services in the Route's namespace."""
    live: bool
    """Whether the gateway serves the VirtualService as it is stored."""
    refusal: str
    """Why the gateway will not serve it; empty where it has nothing against it."""
    rollout: Rollout = ()
    """How far traffic was moved to new revisions, as the stored VirtualService has it."""
    now_s: float


def plan_route(snapshot: RouteSnapshot) -> Plan:
    """Children only where every target is good; otherwise what is in force stays, and the status says what is wrong."""
    route = snapshot.route
    conditions = _conditions(snapshot)
    fields = {name: value for name, value in route.status.to_json().items() if name in ("url", "address", "traffic")}
    try:
        names = _names(snapshot)
        fields["url"] = names.url(DEFAULT_TARGET)
    except UserError as error:
        conditions.mark_false(ALL_TRAFFIC_ASSIGNED, error.reason, error.message)
        return Plan(keep_children=True, status=_status(route, conditions, fields))
    traffic = resolve_traffic(route, snapshot.configurations, snapshot.revisions)
    if isinstance(traffic, BadTarget):
        conditions.mark(ALL_TRAFFIC_ASSIGNED, traffic.status, traffic.reason, traffic.message)
        return Plan(keep_children=True, status=_status(route, conditions, fields))
    conditions.mark_true(ALL_TRAFFIC_ASSIGNED)
    rollout = _rollout(snapshot, traffic)
    traffic = split_traffic(traffic, rollout, snapshot.revisions)
    fields["address"] = {"url": names.address()}
    fields["traffic"] = [_listed(target, names) for target in traffic.listed]
    placeholders = list(_placeholders(traffic, names))
    if taken := _taken(placeholders, snapshot):
        return _not_owned(route, conditions, fields, taken)
    conditions.mark_true(CERTIFICATE_PROVISIONED, "TLSNotEnabled", "external-domain-tls is not enabled")
    _mark_ingress(conditions, live=snapshot.live, refusal=snapshot.refusal)
    if snapshot.live and not all(item.is_done for item in rollout):
        conditions.mark_unknown(INGRESS_READY, "RolloutInProgress", _ROLLING)
    rules = build_rules(traffic, names, by_tag_header=snapshot.settings.features.enabled(Feature.TAG_HEADER_ROUTING))
    virtual_service = build_virtual_service(
        route, rules, build_tag_hosts(traffic, names), rollout=render_rollout(rollout)
    )
    children = (
        Child(resource=VIRTUAL_SERVICES, manifest=virtual_service),
        *(Child(resource=SERVICES, manifest=manifest) for manifest in placeholders),
    )
    wait_s = next_step_s(rollout, snapshot.now_s)
    return Plan(children=children, status=_status(route, conditions, fields), requeue_after_s=wait_s)


def _rollout(snapshot: RouteSnapshot, traffic: Traffic) -> Rollout:
    return plan_rollout(
        traffic,
        snapshot.rollout,
        duration_s=rollout_duration_s(snapshot.route, snapshot.settings.network.rollout_duration_s),
        live=snapshot.live,
        revisions=snapshot.revisions,
        now_s=snapshot.now_s,
    )


def _conditions(snapshot: RouteSnapshot) -> LivingConditions:
    status = snapshot.route.status
    dependents = (ALL_TRAFFIC_ASSIGNED, INGRESS_READY, CERTIFICATE_PROVISIONED)
    conditions = LivingConditions(dependents, status.conditions, now_s=snapshot.now_s)
    if status.observedGeneration != snapshot.route.metadata.generation:
        # What the gateway serves belongs to another generation, whatever else is found below.
        _mark_ingress(conditions, live=False, refusal="")
    return conditions


def _mark_ingress(conditions: LivingConditions, *, live: bool, refusal: str) -> None:
    if refusal:
        conditions.mark_false(INGRESS_READY, "IngressRefused", refusal)
    elif live:
        conditions.mark_true(INGRESS_READY)
    else:
        conditions.mark_unknown(INGRESS_READY, "IngressNotConfigured", "Ingress has not yet been reconciled.")


def _names(snapshot: RouteSnapshot) -> RouteNames:
    route, settings = snapshot.route, snapshot.settings
    tags = {DEFAULT_TARGET, *(target.tag or DEFAULT_TARGET for target in route.spec.traffic)}
    plain = RouteNames(route=route, settings=settings, gateway_port=snapshot.gateway_port, visibility={})
    host_names = {tag: plain.host_name(tag) for tag in tags}
    found = {name: service for name in host_names.values() if (service := snapshot.services.get(name))}
    visibility = resolve_visibility(route, host_names, found, settings)
    return RouteNames(route=route, settings=settings, gateway_port=snapshot.gateway_port, visibility=visibility)


def _listed(target: RevisionTarget, names: RouteNames) -> JsonObject:
    listed: JsonObject = {
        "revisionName": target.revision,
        "percent": target.percent,
        "latestRevision": target.latest,
    }
    return {**listed, "tag": target.tag, "url": names.url(target.tag)} if target.tag else listed


def _placeholders(traffic: Traffic, names: RouteNames) -> Iterator[JsonObject]:
    """A Service for each name of the route, so that the name is taken and resolves inside the cluster."""
    meta = names.route.metadata
    port = {"appProtocol": H2C_PROTOCOL, "name": "http2", "port": 80, "protocol": "TCP"}
    for target in sorted(traffic.targets):
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": names.host_name(target),
                "namespace": meta.namespace,
                # Whether a target is closed to the outside is said on its own Service.
                "labels": {**without(meta.labels, VISIBILITY_LABEL), ROUTE_LABEL: meta.name},
                "annotations": passed_on(meta.annotations),
                "ownerReferences": [owner_reference(names.route).to_json()],
            },
            "spec": {
                "type": "ExternalName",
                "externalName": LOCAL_GATEWAY,
                "sessionAffinity": "None",
                "ports": [{**port, "targetPort": _GATEWAY_SERVICE_PORT}],
            },
        }


def _taken(placeholders: list[JsonObject], snapshot: RouteSnapshot) -> str:
    """The first name that a Service of somebody else has; empty where all are free or ours."""
    uid = snapshot.route.metadata.uid
    for manifest in placeholders:
        name: str = manifest["metadata"]["name"]
        service = snapshot.services.get(name)
        if service is None:
            continue
        if not any(owner.controller and owner.uid == uid for owner in service.metadata.ownerReferences):
            return name
    return ""


def _not_owned(route: Route, conditions: LivingConditions, fields: JsonObject, name: str) -> Plan:
    message = f'There is an existing placeholder Service "{name}" that we do not own.'
    conditions.mark_false(INGRESS_READY, "NotOwned", message)
    event = Event(type="Warning", reason="NotOwned", message=message)
    return Plan(keep_children=True, status=_status(route, conditions, fields), events=(event,))


def _status(route: Route, conditions: LivingConditions, fields: Mapping[str, object]) -> JsonObject:
    found = [condition.to_json() for condition in conditions.result()]
    return {"observedGeneration": route.metadata.generation, "conditions": found, **fields}


def is_failed(route: Route) -> bool:
    """Whether the Route has looked at its present generation, and it cannot work."""
    ready = route.status.condition("Ready")
    seen = route.status.observedGeneration == route.metadata.generation
    return seen and ready is not None and ready.status == FALSE
