"""Endpoints as the addresses of pods, each with its ports by name (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controller.base.json import JsonView

STATS_PORT = "http-autometric"
"""Name of the port where a pod tells its load, in a revision's private Service."""
DATA_PORTS = ("http", "http2")
"""Names of the port that takes requests: HTTP/1.1, or h2c where the revision asks for it."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEndpoint:
    """One pod behind a Service."""

    name: str
    host: str
    ports: Mapping[str, int]
    ready: bool

    def stats(self) -> Address | None:
        return self._address(STATS_PORT)

    def data(self) -> Address | None:
        """Where it takes requests."""
        return next((address for name in DATA_PORTS if (address := self._address(name)) is not None), None)

    def _address(self, port_name: str) -> Address | None:
        port = self.ports.get(port_name)
        return None if port is None else Address(self.host, port)


def parse_endpoints(endpoints: JsonView | None) -> tuple[PodEndpoint, ...]:
    """The pods of an Endpoints object, ready ones and others; none where there is no object."""
    return () if endpoints is None else tuple(_pods(endpoints))


def ready_count(endpoints: JsonView | None) -> int:
    """Pods that are ready. (Terminating ones are not in Endpoints.)"""
    return len({pod.name for pod in parse_endpoints(endpoints) if pod.ready})


def leads_to(endpoints: JsonView | None, address: Address) -> bool:
    """Whether there are addresses, and all of them are this one."""
    pods = parse_endpoints(endpoints)
    return bool(pods) and all(pod.host == address.host and set(pod.ports.values()) == {address.port} for pod in pods)


def _pods(endpoints: JsonView) -> Iterator[PodEndpoint]:
    for subset in endpoints.get("subsets") or ():
        ports = {str(port.get("name") or ""): int(port["port"]) for port in subset.get("ports") or ()}
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(key) or ():
                pod = (address.get("targetRef") or {}).get("name") or f"{address['ip']}:{sorted(ports.values())}"
                yield PodEndpoint(name=pod, host=address["ip"], ports=ports, ready=ready)
