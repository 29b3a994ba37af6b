"""The services, endpoints and policies that are known now, and where a cluster's requests end up among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onebox.istio.clusters import DnsEndpoints
from onebox.istio.listeners import LOOPBACK
from onebox.istio.registry import (
    CLUSTER_DOMAIN,
    ClusterRef,
    Endpoint,
    EndpointsByPort,
    Listener,
    RegisteredService,
    Rule,
    Rules,
    ServicePort,
)

_ALIASES_MAX = 4
"""Longest chain of ExternalNames that is followed; longer ones are loops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the requests of one cluster end up."""

    port: ServicePort
    rule: Rule
    hosts: tuple[str, ...]
    """The services asked on the way: when one of them changes, so may this."""
    endpoints: tuple[Endpoint, ...] = ()
    fixed: bool = False
    """Whether the endpoints are Envoy's own listener, which never changes."""
    dns: DnsEndpoints | None = None
    known: bool = True
    """Whether somebody has said what the endpoints are, be it that there are none."""


class Catalog:
    """What the API says, in the form in which it is asked for. Setters return whether anything changed."""

    def __init__(self, ports: Mapping[Listener, int]) -> None:
        self._ports = ports
        self._services: dict[str, RegisteredService] = {}
        self._endpoints: dict[str, EndpointsByPort] = {}
        self._pods: dict[tuple[str, str], Mapping[str, str]] = {}
        self.rules = Rules()

    def service(self, host: str) -> RegisteredService | None:
        return self._services.get(host)

    def set_service(self, host: str, service: RegisteredService | None) -> bool:
        if self._services.get(host) == service:
            return False
        if service is None:
            del self._services[host]
        else:
            self._services[host] = service
        return True

    def set_endpoints(self, host: str, endpoints: EndpointsByPort | None) -> bool:
        if self._endpoints.get(host) == endpoints:
            return False
        if endpoints is None:
            del self._endpoints[host]
        else:
            self._endpoints[host] = endpoints
        return True

    def set_pod(self, key: tuple[str, str], labels: Mapping[str, str] | None) -> bool:
        """Takes the labels of a pod; only subsets look at them."""
        if self._pods.get(key) == labels:
            return False
        if labels is None:
            del self._pods[key]
        else:
            self._pods[key] = labels
        return True

    def target(self, ref: ClusterRef) -> Target | None:
        """Where requests of this cluster go; None where there is no such service, port or subset."""
        rule = self.rules.of(ref.host)
        if ref.subset and rule.subset(ref.subset) is None:
            return None
        host, passed = ref.host, [ref.host]
        while (service := self._services.get(host)) and service.external_name:
            host = service.external_name.lower().rstrip(".")
            passed.append(host)
            if len(passed) > _ALIASES_MAX:
                return None
            if not host.endswith(f".{CLUSTER_DOMAIN}"):
                port = service.port(ref.port) or ServicePort(ref.port)
                return Target(port=port, rule=rule, hosts=tuple(passed), dns=DnsEndpoints(host, ref.port))
        found = service.port(ref.port) if service else None
        if found is None:
            return None
        return self._local_target(ref, rule, found, tuple(passed))

    def hosts_of(self, ref: ClusterRef) -> tuple[str, ...]:
        """The services that decide about this cluster, whether they exist or not."""
        target = self.target(ref)
        if target is not None:
            return target.hosts
        service = self._services.get(ref.host)
        return (ref.host, service.external_name) if service and service.external_name else (ref.host,)

    def _local_target(self, ref: ClusterRef, rule: Rule, port: ServicePort, hosts: tuple[str, ...]) -> Target:
        if port.listener is not None:
            own = (Endpoint(LOOPBACK, self._ports[port.listener]),)
            return Target(port=port, rule=rule, hosts=hosts, endpoints=own, fixed=True)
        by_port = self._endpoints.get(hosts[-1])
        endpoints = (by_port or {}).get(port.name, ())
        subset = rule.subset(ref.subset)
        if subset is not None:
            endpoints = tuple(found for found in endpoints if self._has_labels(found, subset.labels))
        return Target(port=port, rule=rule, hosts=hosts, endpoints=endpoints, known=by_port is not None)

    def _has_labels(self, endpoint: Endpoint, wanted: Mapping[str, str]) -> bool:
        return wanted.items() <= self._pods.get(endpoint.pod, {}).items()
