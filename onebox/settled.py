"""Whether models answer where the gateway will look for them: what `ladle up` waits for last.

After a stop the stored endpoints still name pods that ended with it. Until the node and the engine have looked, a request
would be refused by a port that nobody listens on, or by a server that still loads its model.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controller.base.json import JsonView

REVISION_SELECTOR = "serving.knative.dev%2Frevision"
"""Endpoints that requests to models go through, as a query's label selector."""
PROBE_TIMEOUT_S = 1.0
"""A guess: the queue-proxy answers a probe in a millisecond."""
_PORT_NAMES = ("http", "http2")
_PROBE = {"K-Network-Probe": "queue", "User-Agent": "kube-probe/1.32"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a revision's requests go: a pod's queue-proxy, or the activator."""

    host: str
    port: int
    pod: bool


def settled(endpoints: Iterable[JsonView]) -> bool:
    """Whether all that these Endpoints name as ready is: pods with a loaded model, an activator that holds requests."""
    return all(_answers(address) for address in frozenset(addresses_of(endpoints)))


def addresses_of(endpoints: Iterable[JsonView]) -> Iterator[Address]:
    """The addresses that requests are sent to, without those of metrics."""
    for item in endpoints:
        for subset in item.get("subsets") or ():
            ports = [port["port"] for port in subset.get("ports") or () if port.get("name") in _PORT_NAMES]
            for address in subset.get("addresses") or ():
                yield from (Address(address["ip"], port, "targetRef" in address) for port in ports)


def _answers(address: Address) -> bool:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.connect()
        if not address.pod:
            return True  # The activator probes pods itself, and waits for them.
        connection.request("GET", "/", headers=_PROBE)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
