"""Which hosts of a VirtualService are served on which listener, and which of its routes hold there (pure).

Gateways say which ports and hosts they take; a VirtualService names gateways. Ports stand for Envoy's two listeners. The
cluster-local listener is also the mesh: there are no sidecars on one machine, so what they would do happens there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.api.istio import MESH_GATEWAY, Gateway, HttpMatch, HttpRoute, Server, VirtualService
from onebox.istio.registry import LISTENER_OF_PORT, Listener, covers, resolve_host

MESH_PORT = 80
_HTTP_PROTOCOLS = {"HTTP", "HTTP2", "GRPC", "GRPC-WEB"}
_GATEWAY_LABELS: Mapping[str, str] = {"istio": "ingressgateway"}
"""Labels of the gateway's own pods, which a match on source labels is compared with."""


@dataclass(frozen=True, slots=True)
class GatewayServer:
    """One port of a Gateway that this Envoy serves."""

    listener: Listener
    port: int
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a VirtualService is on one listener."""

    hosts: tuple[str, ...]
    gateways: frozenset[str]
    """Full names of its gateways there: `namespace/name`, or `mesh`."""
    ports: frozenset[int]


Servers = Mapping[str, tuple[GatewayServer, ...]]
"""Servers by the full name of their Gateway."""


def gateway_servers(gateway: Gateway) -> tuple[GatewayServer, ...]:
    """The servers that end up on one of the listeners: plain HTTP on the ports of Istio's ingress gateway."""
    return tuple(
        GatewayServer(listener, server.port.number, tuple(server.hosts))
        for server in gateway.spec.servers
        if _serves_http(server) and (listener := LISTENER_OF_PORT.get(server.port.number))
    )


def _serves_http(server: Server) -> bool:
    return server.port.protocol.upper() in _HTTP_PROTOCOLS


def bind(virtual_service: VirtualService, servers: Servers) -> Mapping[Listener, Binding]:
    """Where the VirtualService is served; empty where none of its gateways exists or takes its hosts."""
    namespace = virtual_service.metadata.namespace
    hosts = [resolve_host(host, namespace) for host in virtual_service.spec.hosts]
    served: dict[Listener, list[tuple[str, int, list[str]]]] = {}
    for name in virtual_service.spec.gateways or [MESH_GATEWAY]:
        gateway = gateway_name(name, namespace)
        if gateway == MESH_GATEWAY:
            served.setdefault(Listener.LOCAL, []).append((gateway, MESH_PORT, hosts))
        for server in servers.get(gateway, ()):
            taken = _hosts_taken(hosts, server, namespace, gateway.partition("/")[0])
            if taken:
                served.setdefault(server.listener, []).append((gateway, server.port, taken))
    return {listener: _binding(entries) for listener, entries in served.items()}


def gateway_name(name: str, namespace: str) -> str:
    """The full name of a gateway that an object in `namespace` names."""
    return name if "/" in name or name == MESH_GATEWAY else f"{namespace}/{name}"


def _binding(entries: Iterable[tuple[str, int, list[str]]]) -> Binding:
    entries = list(entries)
    hosts = dict.fromkeys(host for _, _, taken in entries for host in taken)
    return Binding(
        hosts=tuple(hosts),
        gateways=frozenset(gateway for gateway, _, _ in entries),
        ports=frozenset(port for _, port, _ in entries),
    )


def _hosts_taken(hosts: Iterable[str], server: GatewayServer, namespace: str, gateway_namespace: str) -> list[str]:
    """The narrower of each pair of a VirtualService's and a server's host that meet."""
    taken = []
    for entry in server.hosts:
        allowed, _, pattern = entry.lower().rpartition("/")
        if allowed not in ("", "*") and namespace != (gateway_namespace if allowed == "." else allowed):
            continue
        for host in hosts:
            if covers(pattern, host):
                taken.append(host)
            elif covers(host, pattern):
                taken.append(pattern)
    return taken


def filter_routes(routes: Iterable[HttpRoute], binding: Binding, namespace: str) -> tuple[HttpRoute, ...]:
    """The routes that can be taken on one listener, without the matches that are for somewhere else."""
    found = []
    for route in routes:
        matches = [match for match in route.match if _applies(match, binding, namespace)]
        if len(matches) == len(route.match):
            found.append(route)
        elif matches:
            found.append(route.replace(match=matches))
    return tuple(found)


def _applies(match: HttpMatch, binding: Binding, namespace: str) -> bool:
    if match.gateways and binding.gateways.isdisjoint(gateway_name(name, namespace) for name in match.gateways):
        return False
    if match.port is not None and match.port not in binding.ports:
        return False
    return match.sourceLabels.items() <= _GATEWAY_LABELS.items() and not match.sourceNamespace
