"""A destination of routes as Envoy's Cluster, and its endpoints as a ClusterLoadAssignment (pure).

Where the endpoints come from is one of three: a file of their own (an update reads just that file), the cluster itself
(see onebox.istio.endpoint_files for when), or DNS for a name outside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.api.istio import (
    ConnectionPool,
    ConsistentHash,
    OutlierDetection,
    TrafficPolicy,
    TrafficSettings,
)
from onebox.istio.registry import ClusterRef, Endpoint, Rule, ServicePort
from onebox.istio.retries import build_duration
from onebox.istio.xds import HTTP_PROTOCOL_OPTIONS, HTTP_PROTOCOL_OPTIONS_NAME, UINT32_MAX, Message, any_of, file_source

CONNECT_TIMEOUT = "10s"
"""Istio's default."""
_BALANCERS = {
    "": "LEAST_REQUEST",
    "UNSPECIFIED": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
    # Forwarding to where the client wanted to go makes no sense at a gateway: the client wanted the gateway.
    "PASSTHROUGH": "LEAST_REQUEST",
}
"""Istio's load balancers as Envoy's; its default is LEAST_REQUEST."""


@dataclass(frozen=True, slots=True)
class FileEndpoints:
    """Endpoints stand in a file that Envoy watches."""

    path: str


@dataclass(frozen=True, slots=True)
class InlineEndpoints:
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class DnsEndpoints:
    host: str
    port: int


EndpointSource = FileEndpoints | InlineEndpoints | DnsEndpoints


def build_cluster(ref: ClusterRef, port: ServicePort, rule: Rule, source: EndpointSource) -> Message:
    """The Cluster of one port of a service; UserError where a DestinationRule's value cannot work."""
    settings = merge_settings(ref, rule)
    pool = settings.connectionPool or ConnectionPool()
    cluster: Message = {
        "name": ref.name,
        "connect_timeout": build_duration("connectTimeout", pool.tcp.connectTimeout or CONNECT_TIMEOUT),
        "circuit_breakers": {"thresholds": [_thresholds(pool)]},
        "typed_extension_protocol_options": {
            HTTP_PROTOCOL_OPTIONS_NAME: any_of(HTTP_PROTOCOL_OPTIONS, _protocol_options(pool, port))
        },
        **_source(ref.name, source),
        **_balancer(settings),
    }
    if settings.outlierDetection is not None:
        cluster |= _outliers(settings.outlierDetection)
    return cluster


def merge_settings(ref: ClusterRef, rule: Rule) -> TrafficSettings:
    """What holds for one cluster: a subset's word before the host's, a port's before both of theirs, by whole section."""
    subset = rule.subset(ref.subset)
    merged = TrafficSettings()
    for policy in (rule.policy, subset.trafficPolicy if subset else None):
        for settings in _for_port(policy, ref.port):
            merged = TrafficSettings(
                loadBalancer=settings.loadBalancer or merged.loadBalancer,
                connectionPool=settings.connectionPool or merged.connectionPool,
                outlierDetection=settings.outlierDetection or merged.outlierDetection,
            )
    return merged


def _for_port(policy: TrafficPolicy | None, port: int) -> Iterable[TrafficSettings]:
    if policy is None:
        return ()
    return (policy, *(settings for settings in policy.portLevelSettings if settings.port.number == port))


def build_load_assignment(name: str, endpoints: Iterable[Endpoint]) -> Message:
    """The endpoints of one cluster. Without any, Envoy answers 503 `no healthy upstream`."""
    addresses = dict.fromkeys((endpoint.address, endpoint.port) for endpoint in endpoints)
    hosts = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in addresses
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}] if hosts else []}


def _source(name: str, source: EndpointSource) -> Message:
    match source:
        case FileEndpoints(path):
            return {"type": "EDS", "eds_cluster_config": {"eds_config": file_source(path)}}
        case InlineEndpoints(endpoints):
            return {"type": "STATIC", "load_assignment": build_load_assignment(name, endpoints)}
        case DnsEndpoints(host, port):
            target = Endpoint(host, port)
            return {"type": "LOGICAL_DNS", "load_assignment": build_load_assignment(name, [target])}


def _thresholds(pool: ConnectionPool) -> Message:
    # Envoy's own limits (1,024 requests at once) would answer 503 long before a model server is full.
    return {
        "max_connections": pool.tcp.maxConnections or UINT32_MAX,
        "max_pending_requests": pool.http.http1MaxPendingRequests or UINT32_MAX,
        "max_requests": pool.http.http2MaxRequests or UINT32_MAX,
        "max_retries": pool.http.maxRetries or UINT32_MAX,
    }


def _protocol_options(pool: ConnectionPool, port: ServicePort) -> Message:
    http2: Message = {}
    if pool.http.maxConcurrentStreams:
        http2["max_concurrent_streams"] = pool.http.maxConcurrentStreams
    options: Message = {}
    if (port.http2 or pool.http.h2UpgradePolicy == "UPGRADE") and port.listener is None:
        options["explicit_http_config"] = {"http2_protocol_options": http2}
    elif port.http1:
        options["explicit_http_config"] = {"http_protocol_options": {}}
    else:
        # HTTP/1.1 stays HTTP/1.1, and gRPC stays HTTP/2, on the one port of a service.
        options["use_downstream_protocol_config"] = {"http_protocol_options": {}, "http2_protocol_options": http2}
    common: Message = {}
    if pool.http.idleTimeout:
        common["idle_timeout"] = build_duration("http.idleTimeout", pool.http.idleTimeout)
    if pool.http.maxRequestsPerConnection:
        common["max_requests_per_connection"] = pool.http.maxRequestsPerConnection
    return {**options, "common_http_protocol_options": common} if common else options


def _balancer(settings: TrafficSettings) -> Message:
    balancer = settings.loadBalancer
    if balancer is None:
        return {"lb_policy": _BALANCERS[""]}
    if balancer.consistentHash is not None:
        return _ring(balancer.consistentHash)
    return {"lb_policy": _BALANCERS.get(balancer.simple, _BALANCERS[""])}


def _ring(wanted: ConsistentHash) -> Message:
    if wanted.maglev is not None:
        table_size = wanted.maglev.tableSize
        maglev: Message = {"lb_policy": "MAGLEV"}
        return {**maglev, "maglev_lb_config": {"table_size": table_size}} if table_size else maglev
    smallest = wanted.ringHash.minimumRingSize if wanted.ringHash else wanted.minimumRingSize
    ring: Message = {"lb_policy": "RING_HASH"}
    return {**ring, "ring_hash_lb_config": {"minimum_ring_size": smallest}} if smallest else ring


def _outliers(wanted: OutlierDetection) -> Message:
    built: Message = {}
    for field, count in (
        ("consecutive_5xx", wanted.consecutive5xxErrors),
        ("consecutive_gateway_failure", wanted.consecutiveGatewayErrors),
    ):
        if count is not None:
            # Zero means off to Istio; Envoy takes the count and, apart from it, how often it is acted upon.
            built[f"enforcing_{field}"] = 100 if count else 0
            if count:
                built[field] = count
    if wanted.splitExternalLocalOriginErrors:
        built["split_external_local_origin_errors"] = True
        if wanted.consecutiveLocalOriginFailures is not None:
            built["consecutive_local_origin_failure"] = wanted.consecutiveLocalOriginFailures
    for field, text in (("interval", wanted.interval), ("base_ejection_time", wanted.baseEjectionTime)):
        if text:
            built[field] = build_duration(f"outlierDetection.{field}", text)
    if wanted.maxEjectionPercent:
        built["max_ejection_percent"] = wanted.maxEjectionPercent
    # Istio goes on avoiding ejected endpoints until all but this share are ejected, by default to the last.
    panic = {"healthy_panic_threshold": {"value": wanted.minHealthPercent}}
    return {"outlier_detection": built, "common_lb_config": panic}
