"""How requests reach a service under its own name: a VirtualService and an ExternalName Service (spec/kserve.md 2.7). (pure)

Knative routes its own names; these two add the service's. The VirtualService sends a request back into the local gateway with
the Host of the component that should get it.
"""

from __future__ import annotations

import re
from typing import Final

from controller.api.inferenceservice import InferenceService
from controller.api.istio import ISTIO_API_VERSION, MESH_GATEWAY
from controller.api.meta import owner_reference
from controller.base.json import JsonObject
from controller.inferenceservice.components import Component
from controller.inferenceservice.config import IngressSettings, Settings
from controller.inferenceservice.hosts import ServiceHosts, path_of
from controller.kube.resources import SERVICES, VIRTUAL_SERVICES
from controller.reconcile.plan import Child

_EXPLAIN: Final = r"/v1/models/[\w-]+:explain$"
_GATEWAY_PORT: Final = 80


def build_external_name_service(service: InferenceService, settings: Settings) -> Child:
    """The child that gives a service its cluster-local name."""
    spec = {
        "type": "ExternalName",
        "externalName": settings.ingress.local_gateway_service,
        "sessionAffinity": "None",
    }
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": _meta(service), "spec": spec}
    return Child(resource=SERVICES, manifest=manifest)


def build_virtual_service(
    service: InferenceService,
    hosts: ServiceHosts,
    *,
    entry: Component,
    explainer: Component | None,
    settings: Settings,
) -> Child:
    """The child that routes the service's names to `entry`, and requests for explanations to `explainer`."""
    ingress = settings.ingress
    meta = _meta(service)
    if service.metadata.labels:
        meta["labels"] = dict(service.metadata.labels)
    annotations = {n: v for n, v in service.metadata.annotations.items() if n not in settings.annotations_disallowed}
    if annotations:
        meta["annotations"] = annotations
    routes = []
    if explainer is not None:
        matches = [{**match, "uri": {"regex": f"^{_EXPLAIN}"}} for match in _matches(hosts, ingress)]
        routes.append(_route(service, matches, explainer, settings))
    routes.append(_route(service, _matches(hosts, ingress), entry, settings))
    names = [hosts.internal]
    if not hosts.is_internal:
        names += [hosts.external, *hosts.additional]
        if ingress.path_template:
            names.append(ingress.ingress_domain)
            routes += _path_routes(service, entry, explainer, settings)
    gateways = [ingress.local_gateway, MESH_GATEWAY, *(() if hosts.is_internal else (ingress.ingress_gateway,))]
    spec = {"hosts": list(dict.fromkeys(names)), "gateways": gateways, "http": routes}
    manifest = {"apiVersion": ISTIO_API_VERSION, "kind": "VirtualService", "metadata": meta, "spec": spec}
    return Child(resource=VIRTUAL_SERVICES, manifest=manifest)


def _meta(service: InferenceService) -> JsonObject:
    return {
        "name": service.metadata.name,
        "namespace": service.metadata.namespace,
        "ownerReferences": [owner_reference(service).to_json()],
    }


def _matches(hosts: ServiceHosts, ingress: IngressSettings) -> list[JsonObject]:
    inside = {"authority": {"regex": _host_regex(hosts.internal)}, "gateways": [ingress.local_gateway, MESH_GATEWAY]}
    if hosts.is_internal:
        return [inside]
    outside = (hosts.external, *hosts.additional)
    return [inside, *({**_at_gateway(name, ingress)} for name in outside)]


def _at_gateway(host: str, ingress: IngressSettings) -> JsonObject:
    return {"authority": {"regex": _host_regex(host)}, "gateways": [ingress.ingress_gateway]}


def _host_regex(host: str) -> str:
    """The host with or without a port; the same text that KServe writes."""
    return f"^{re.escape(host).replace(chr(92) + '-', '-')}(?::\\d{{1,5}})?$"


def _route(service: InferenceService, matches: list[JsonObject], to: Component, settings: Settings) -> JsonObject:
    headers = {
        "Host": to.local_host(settings.cluster_domain),
        "KServe-Isvc-Name": service.metadata.name,
        "KServe-Isvc-Namespace": service.metadata.namespace,
    }
    destination = {"host": settings.ingress.knative_local_gateway_service, "port": {"number": _GATEWAY_PORT}}
    return {
        "match": matches,
        "route": [{"destination": destination, "weight": 100}],
        "headers": {"request": {"set": headers}},
    }


def _path_routes(
    service: InferenceService, entry: Component, explainer: Component | None, settings: Settings
) -> list[JsonObject]:
    """The routes of path-based URLs: on one host for all services, the path cut off on the way in."""
    path = path_of(service.metadata, settings.ingress.path_template)
    at_host = _at_gateway(settings.ingress.ingress_domain, settings.ingress)
    routes = []
    if explainer is not None:
        pattern = f"^{path}({_EXPLAIN.removesuffix('$')})$"
        route = _route(service, [{**at_host, "uri": {"regex": pattern}}], explainer, settings)
        routes.append({**route, "rewrite": {"uriRegexRewrite": {"match": pattern, "rewrite": "\\1"}}})
    matches = [{**at_host, "uri": {"prefix": f"{path}/"}}, {**at_host, "uri": {"exact": path}}]
    routes.append({**_route(service, matches, entry, settings), "rewrite": {"uri": "/"}})
    return routes
