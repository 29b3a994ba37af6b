"""What Envoy says about the configuration that it was given: the version that is in force, and how many it refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from controller.base.errors import TransientError
from onebox.istio.registry import Listener

_TIMEOUT_S = 5.0
"""For one look at the statistics: 2 ms at 500 services, and more where the machine is busy. A guess."""
CLUSTERS = "clusters"
"""The table of clusters, beside those of each listener's routes."""
_SCOPES = {CLUSTERS: "cluster_manager.cds."} | {
    listener.value: f"http.{listener.value}.rds.{listener.value}." for listener in Listener
}
_WARMING = "cluster_manager.warming_clusters"
_FILTER = "|".join(
    ["^" + re.escape(_WARMING) + "$"]
    + [f"^{re.escape(scope)}(version_text|update_rejected|update_failure)$" for scope in _SCOPES.values()]
)


class EnvoyAway(TransientError):
    """Envoy does not answer: it starts, or is gone."""


@dataclass(frozen=True, slots=True)
class TableState:
    version: str
    refused: int
    """Updates that Envoy did not take since it started."""


@dataclass(frozen=True, slots=True)
class AdminState:
    tables: Mapping[str, TableState]
    """By `clusters`, or the listener's name."""
    warming: int
    """Clusters that wait for their first endpoints."""


class Admin:
    """Envoy's admin page."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, socket: Path) -> AsyncIterator[Admin]:
        """The admin page behind a Unix socket, with connections that are kept."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        connector = aiohttp.UnixConnector(path=str(socket))
        async with aiohttp.ClientSession("http://envoy", connector=connector, timeout=timeout) as session:
            yield cls(session)

    async def state(self) -> AdminState:
        """What is in force now; EnvoyAway where nobody answers."""
        return parse_statistics(await self._get("/stats", {"filter": _FILTER}))

    async def page(self, pattern: str) -> str:
        """The statistics whose full names match, and that were used, as a Prometheus page; EnvoyAway as above."""
        return await self._get("/stats/prometheus", {"usedonly": "", "filter": pattern})

    async def _get(self, path: str, query: Mapping[str, str]) -> str:
        try:
            async with self._session.get(path, params=query) as response:
                return await response.text()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise EnvoyAway(str(error)) from error


def parse_statistics(text: str) -> AdminState:
    """The facts in a page of statistics, one `name: value` a line."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    def number(name: str) -> int:
        return int(values.get(name, 0))

    tables = {
        name: TableState(
            version=values.get(f"{scope}version_text", "").strip('"'),
            refused=number(f"{scope}update_rejected") + number(f"{scope}update_failure"),
        )
        for name, scope in _SCOPES.items()
    }
    return AdminState(tables, number(_WARMING))
