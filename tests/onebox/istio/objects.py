"""Builders of the objects that routing is made from, as the API hands them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller.base.json import JsonObject

INGRESS_GATEWAY = "knative-serving/knative-ingress-gateway"
LOCAL_GATEWAY = "knative-serving/knative-local-gateway"
LOCAL_GATEWAY_HOST = "knative-local-gateway.istio-system.svc.cluster.local"
NAMESPACE = "golden"


def meta(name: str, namespace: str = NAMESPACE, **fields: Any) -> JsonObject:
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "generation": 1,
        "creationTimestamp": "2026-11-21T08:00:00Z",
        **fields,
    }


def virtual_service(
    name: str,
    spec: Mapping[str, Any],
    *,
    namespace: str = NAMESPACE,
    gateways: Sequence[str] = (INGRESS_GATEWAY,),
    **fields: Any,
) -> JsonObject:
    """A VirtualService on the public gateway, unless its spec or `gateways` says otherwise."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": meta(name, namespace, **fields),
        "spec": {"gateways": list(gateways), **spec},
    }


def route_to(host: str, *, namespace: str = NAMESPACE, **fields: Any) -> JsonObject:
    """A route with one destination."""
    return {"route": [{"destination": {"host": f"{host}.{namespace}.svc.cluster.local"}}], **fields}


def service(
    name: str,
    *,
    namespace: str = NAMESPACE,
    ports: Iterable[Mapping[str, Any]] = ({"name": "http", "port": 80},),
    labels: Mapping[str, str] | None = None,
    **spec: Any,
) -> JsonObject:
    return {"metadata": meta(name, namespace, labels=dict(labels or {})), "spec": {"ports": list(ports), **spec}}


def revision_service(name: str, *, namespace: str = NAMESPACE) -> JsonObject:
    return service(name, namespace=namespace, labels={"serving.knative.dev/revision": name})


def endpoints(name: str, ports: Iterable[int], *, namespace: str = NAMESPACE, port_name: str = "http") -> JsonObject:
    """One ready pod for each port, as workloads write them: a subset for each."""
    subsets = [
        {
            "addresses": [
                {"ip": "127.0.0.1", "targetRef": {"kind": "Pod", "namespace": namespace, "name": f"{name}-{number}"}}
            ],
            "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        }
        for number, port in enumerate(ports)
    ]
    return {"metadata": meta(name, namespace), "subsets": subsets}


def gateway(name: str, port: int, *, namespace: str = "knative-serving", hosts: Sequence[str] = ("*",)) -> JsonObject:
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": list(hosts)}
    return {
        "metadata": meta(name, namespace),
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }


def installed_gateways() -> list[JsonObject]:
    return [gateway("knative-ingress-gateway", 80), gateway("knative-local-gateway", 8081)]


def local_gateway_service() -> JsonObject:
    return service(
        "knative-local-gateway",
        namespace="istio-system",
        ports=[{"name": "http2", "port": 80, "targetPort": 8081}],
    )


def destination_rule(name: str, spec: Mapping[str, Any], *, namespace: str = NAMESPACE) -> JsonObject:
    return {"metadata": meta(name, namespace), "spec": dict(spec)}


def knative_virtual_service(
    name: str, shares: Mapping[str, int], *, namespace: str = NAMESPACE, domain: str = "example.com", **fields: Any
) -> JsonObject:
    """What a Route makes: each rule once for probes, then for requests, for the local and the public gateway."""
    local = f"{name}.{namespace}"
    destinations = [
        {
            "destination": {"host": f"{revision}.{namespace}.svc.cluster.local", "port": {"number": 80}},
            "weight": share,
            "headers": {
                "request": {
                    "set": {"Knative-Serving-Namespace": namespace, "Knative-Serving-Revision": revision},
                }
            },
        }
        for revision, share in shares.items()
    ]
    http = []
    for host, gateway_name in ((local, LOCAL_GATEWAY), (f"{local}.{domain}", INGRESS_GATEWAY)):
        match = {"authority": {"prefix": host}, "gateways": [gateway_name]}
        probe = {**match, "headers": {"K-Network-Hash": {"exact": "override"}}}
        sets = {"headers": {"request": {"set": {"K-Network-Hash": "hash-of-it"}}}}
        http.append({"match": [probe], "route": destinations, "retries": {}, **sets})
        http.append({"match": [match], "route": destinations, "retries": {}})
    spec = {
        "hosts": [local, f"{local}.svc", f"{local}.svc.cluster.local", f"{local}.{domain}"],
        "http": http,
    }
    gateways = (INGRESS_GATEWAY, LOCAL_GATEWAY)
    return virtual_service(f"{name}-ingress", spec, namespace=namespace, gateways=gateways, **fields)


def kserve_virtual_service(
    name: str, *, namespace: str = NAMESPACE, domain: str = "example.com", **fields: Any
) -> JsonObject:
    """What an InferenceService makes: its own hosts, led through the local gateway to the predictor's."""
    local, public = f"{name}.{namespace}.svc.cluster.local", f"{name}.{namespace}.{domain}"

    def match(host: str, *gateways: str) -> JsonObject:
        pattern = "^" + host.replace(".", r"\.") + r"(?::\d{1,5})?$"
        return {"authority": {"regex": pattern}, "gateways": list(gateways)}

    headers = {
        "Host": f"{name}-predictor.{namespace}.svc.cluster.local",
        "KServe-Isvc-Name": name,
        "KServe-Isvc-Namespace": namespace,
    }
    spec = {
        "hosts": [local, public],
        "http": [
            {
                "headers": {"request": {"set": headers}},
                "match": [match(local, LOCAL_GATEWAY, "mesh"), match(public, INGRESS_GATEWAY)],
                "route": [{"destination": {"host": LOCAL_GATEWAY_HOST, "port": {"number": 80}}, "weight": 100}],
            }
        ],
    }
    gateways = (LOCAL_GATEWAY, "mesh", INGRESS_GATEWAY)
    return virtual_service(name, spec, namespace=namespace, gateways=gateways, **fields)
