"""Whether the gateway really sends a revision's requests to the activator: asked of Envoy before the last pod goes.

Knative probes the revision's Service until the activator answers. Here the gateway is one Envoy, and its admin page says
which hosts a cluster has in this moment: no request needs to be routed, and revisions that no route names can be asked too.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import orjson

from controller.base.errors import TransientError
from onebox.knative.endpoints import Address
from onebox.knative.http_get import connect

_ANSWER_S = 0.5
"""Longest answer of Envoy's admin page or of the activator; both take half a millisecond (measured 2026-11), and whoever asks
has other revisions to look after."""
_PROBE_TARGET = "/healthz"
_PROBE_HEADERS = "K-Network-Probe: activator\r\nUser-Agent: Knative-Autoscaling-Probe\r\n"
_PROBE_BODY = b"activator"
"""Knative's own probe of its activator, and the answer."""
_ANSWER_BYTES_MAX = 16 * 2**20
"""A cluster takes about 2 kB of it for each host."""


class RequestPath(Protocol):
    """Where requests for a revision go."""

    async def is_proxied(self, namespace: str, revision: str) -> bool:
        """Whether no request can reach a pod but through the activator; TransientError where nobody can tell."""
        ...


class EnvoyPath:
    """The path through the Envoy whose admin page is behind the unix socket `admin`."""

    def __init__(self, admin: Path, activator: Address) -> None:
        self._admin = admin
        self._activator = activator

    async def is_proxied(self, namespace: str, revision: str) -> bool:
        host = f"{revision}.{namespace}.svc.cluster.local"
        target = f"/clusters?format=json&filter={quote(f'[|]{re.escape(host)}$', safe='')}"
        try:
            if await _get(self._activator, _PROBE_TARGET, _PROBE_HEADERS) != _PROBE_BODY:
                return False
            return proxied_clusters(await _get(self._admin, target), self._activator)
        except (OSError, ValueError) as error:
            raise TransientError(f"the path of {namespace}/{revision} is not known: {error}") from error


async def _get(server: Address | Path, target: str, headers: str = "") -> bytes:
    async with asyncio.timeout(_ANSWER_S):
        connection = await connect(server, body_bytes_max=_ANSWER_BYTES_MAX)
        try:
            return await connection.get(target, headers)
        finally:
            connection.close()


def proxied_clusters(answer: bytes, activator: Address) -> bool:
    """Whether every host of every cluster in Envoy's JSON is the activator; ValueError for another document.

    No cluster at all means that no route leads to the revision. A cluster without hosts refuses requests: nobody holds
    them, so that is no path through the activator.
    """
    try:
        for cluster in orjson.loads(answer).get("cluster_statuses", ()):
            sockets = [host["address"]["socket_address"] for host in cluster.get("host_statuses", ())]
            hosts = {Address(socket["address"], socket["port_value"]) for socket in sockets}
            if hosts != {activator}:
                return False
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no list of clusters: {error}") from error
    return True
