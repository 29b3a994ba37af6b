"""What routes can lead to: services with their ports and endpoints, and the policies of DestinationRules.

Parses the objects at the edge into the few facts that the translation looks at. Names are resolved as Istio does: a name
without a dot is a service of the namespace that says it, every other name is complete.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from controller.api.istio import Destination, DestinationRule, HttpRoute, Subset, TrafficPolicy
from controller.base.json import JsonView
from controller.base.names import REVISION_LABEL

CLUSTER_DOMAIN = "svc.cluster.local"
"""Kubernetes' default domain of services."""
GATEWAY_NAMESPACE = "istio-system"
"""Where Istio's gateways and their Services live."""
_H2C_PROTOCOL = "kubernetes.io/h2c"
_H2_PORT_NAMES = ("http2", "grpc", "h2c")
"""Port names, also with a `-suffix`, by which Istio takes a port for HTTP/2."""


class Listener(StrEnum):
    """The ports on which Envoy takes requests; the values name route tables and files."""

    PUBLIC = "public"
    LOCAL = "local"


LISTENER_OF_PORT: Mapping[int, Listener] = {80: Listener.PUBLIC, 8080: Listener.PUBLIC, 8081: Listener.LOCAL}
"""Which listener stands for a port of Istio's ingress gateway: 80 (8080 inside the pod) and, as Knative installs it, 8081
for requests from within the cluster."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    number: int
    name: str = ""
    http2: bool = False
    """Whether requests always go there over HTTP/2."""
    http1: bool = False
    """Whether they always go over HTTP/1.1. Neither: over the version in which they come."""
    listener: Listener | None = None
    """The listener of Envoy's own that the port leads to, for a Service of the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredService:
    """A Kubernetes Service as routes see it."""

    host: str
    ports: tuple[ServicePort, ...]
    external_name: str = ""
    revision: bool = False
    """Whether the endpoints are those of a Knative revision: pods behind a queue-proxy, or the activator."""

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    address: str
    port: int
    pod: tuple[str, str] = ("", "")
    """Namespace and name of the pod, where it is one."""


EndpointsByPort = Mapping[str, tuple[Endpoint, ...]]
"""Ready endpoints of one service by port name, sorted."""


@dataclass(frozen=True, slots=True)
class Rule:
    """All that DestinationRules say about one host."""

    policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()

    def subset(self, name: str) -> Subset | None:
        return next((subset for subset in self.subsets if subset.name == name), None)


NO_RULE = Rule()


@dataclass(frozen=True, slots=True, order=True)
class ClusterRef:
    """A destination of requests: Istio's cluster of a service's port, or of a subset of its endpoints."""

    host: str
    port: int
    subset: str = ""

    @property
    def name(self) -> str:
        """As Istio names it: `outbound|80||plain-00001.default.svc.cluster.local`."""
        return f"outbound|{self.port}|{self.subset}|{self.host}"


class Registry(Protocol):
    """What the translation of a route may look up; each answer can be None or empty, since nothing is owed to exist."""

    def service(self, host: str) -> RegisteredService | None: ...
    def rule(self, host: str) -> Rule: ...
    def local_routes(self, host: str) -> Sequence[HttpRoute]:
        """The routes for `host` on the cluster-local listener, in order."""
        ...


def service_host(namespace: str, name: str) -> str:
    return f"{name}.{namespace}.{CLUSTER_DOMAIN}"


def resolve_host(host: str, namespace: str) -> str:
    """The complete form of a host that an object in `namespace` names."""
    lowered = host.lower()
    return lowered if "." in lowered or lowered == "*" else service_host(namespace, lowered)


def resolve_destination(
    destination: Destination, namespace: str, registry: Registry, *, gateway_port: int
) -> ClusterRef:
    """The cluster that a destination means, whether it exists or not.

    Without a port number it is the service's only port; where there are several, or none is known, Istio takes the number
    of the gateway's port.
    """
    host = resolve_host(destination.host, namespace)
    if destination.port and destination.port.number:
        return ClusterRef(host, destination.port.number, destination.subset)
    service = registry.service(host)
    only = service.ports[0].number if service and len(service.ports) == 1 else gateway_port
    return ClusterRef(host, only, destination.subset)


def parse_service(service: JsonView) -> RegisteredService:
    """The facts of a Service."""
    meta, spec = service["metadata"], service.get("spec") or {}
    namespace = meta["namespace"]
    revision = REVISION_LABEL in (meta.get("labels") or {})
    return RegisteredService(
        host=service_host(namespace, meta["name"]),
        ports=tuple(_service_port(port, namespace, revision=revision) for port in spec.get("ports") or ()),
        external_name=spec.get("externalName") or "" if spec.get("type") == "ExternalName" else "",
        revision=revision,
    )


def _service_port(port: JsonView, namespace: str, *, revision: bool) -> ServicePort:
    name = port.get("name") or ""
    target = port.get("targetPort") or port["port"]
    listener = LISTENER_OF_PORT.get(target) if namespace == GATEWAY_NAMESPACE else None
    http2 = port.get("appProtocol") == _H2C_PROTOCOL or name.split("-")[0] in _H2_PORT_NAMES
    if revision and http2:
        # Pods of revisions understand both on this port: our runtimes answer REST and gRPC there, and in front of others
        # the queue-proxy speaks HTTP/2 to the container, whatever it hears itself.
        return ServicePort(port["port"], name, listener=listener)
    http1 = not http2 and name.split("-")[0] == "http"
    return ServicePort(port["port"], name, http2, http1, listener)


def parse_endpoints(endpoints: JsonView) -> EndpointsByPort:
    """The ready endpoints of a service by port name. Addresses that are none are left out: Envoy would refuse them all."""
    by_port: dict[str, list[Endpoint]] = {}
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            found = by_port.setdefault(port.get("name") or "", [])
            found += _endpoints(subset.get("addresses") or (), port["port"])
    return {name: tuple(sorted(set(found))) for name, found in by_port.items()}


def _endpoints(addresses: Iterable[JsonView], port: int) -> Iterator[Endpoint]:
    for entry in addresses:
        try:
            address = str(ipaddress.ip_address(entry["ip"]))
        except ValueError:
            continue
        target = entry.get("targetRef") or {}
        is_pod = target.get("kind", "Pod") == "Pod"
        pod = (target.get("namespace") or "", target.get("name") or "") if is_pod else ("", "")
        yield Endpoint(address, port, pod)


@dataclass(slots=True)
class Rules:
    """DestinationRules by the host that they are about."""

    _rules: dict[tuple[str, str], DestinationRule] = field(default_factory=dict)
    _merged: dict[str, Rule] = field(default_factory=dict)

    def get(self, key: tuple[str, str]) -> DestinationRule | None:
        return self._rules.get(key)

    def set(self, key: tuple[str, str], rule: DestinationRule | None) -> None:
        """Takes a rule, or takes it away where it is None."""
        if rule is None:
            self._rules.pop(key, None)
        else:
            self._rules[key] = rule
        self._merged.clear()

    def of(self, host: str) -> Rule:
        """What is said about `host`: by its full name, else by the longest wildcard that covers it."""
        if not self._rules:
            return NO_RULE
        if host not in self._merged:
            self._merged[host] = self._merge(host)
        return self._merged[host]

    def has_subsets(self) -> bool:
        return any(rule.spec.subsets for rule in self._rules.values())

    def _merge(self, host: str) -> Rule:
        hosts = {key: resolve_host(rule.spec.host, key[0]) for key, rule in self._rules.items()}
        covering = [name for name in hosts.values() if covers(name, host)]
        best = max(covering, key=lambda name: (not name.startswith("*"), len(name)), default="")
        chosen = [self._rules[key] for key in sorted(self._rules, key=self._age) if hosts[key] == best]
        policy = next((rule.spec.trafficPolicy for rule in chosen if rule.spec.trafficPolicy), None)
        return Rule(policy, tuple(subset for rule in chosen for subset in rule.spec.subsets))

    def _age(self, key: tuple[str, str]) -> tuple[str, tuple[str, str]]:
        return self._rules[key].metadata.creationTimestamp or "", key


def covers(pattern: str, host: str) -> bool:
    """Whether a host, or every host that the wildcard `host` stands for, is among those that `pattern` stands for."""
    if pattern.startswith("*"):
        return host.endswith(pattern[1:]) and host != pattern[1:]
    return pattern == host
