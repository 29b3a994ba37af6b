"""Reading the load of pods: one kept connection for each, one small GET each second."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from onebox.knative.endpoints import Address
from onebox.knative.http_get import GetConnection, connect

SCRAPE_PERIOD_S = 1.0
"""Seconds between two scrapes of a pod; a constant of Knative's."""
SCRAPE_TIMEOUT_S = 3.0
"""Longest scrape, connecting included; Knative's."""
BODY_BYTES_MAX = 4096
"""Longest body; ten times what a report has. (Knative allows 336 bytes for its binary form.)"""
_CONFIDENCE = 1.96**2 * 100 / 5**2
"""95 % confidence, a standard deviation of 10 and a margin of 5 requests: the sample size for endlessly many pods, 15.37."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStat:
    """A pod's last report."""

    average_concurrency: float
    average_proxied_concurrency: float
    request_count: float
    proxied_request_count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionLoad:
    """All pods of a revision together, without what the activator forwarded and has counted itself."""

    concurrency: float
    rps: float


def sample_size(pods: int) -> int:
    """How many of `pods` speak for all: 3 -> 3, 10 -> 7, 50 -> 12, 1000 -> 16."""
    return pods if pods <= 3 else math.ceil(pods * _CONFIDENCE / (pods + _CONFIDENCE - 1))


def total_load(stats: Iterable[PodStat | None], pods: int) -> RevisionLoad | None:
    """The load of `pods` pods from those that answered; None where too few did to speak for all.

    All pods of this machine are asked, and the sample size is only the quorum: one that hangs must not hide the load.
    """
    heard: Sequence[PodStat] = [stat for stat in stats if stat is not None]
    if not heard or len(heard) < sample_size(pods):
        return None
    share = pods / len(heard)
    return RevisionLoad(
        concurrency=share * sum(stat.average_concurrency - stat.average_proxied_concurrency for stat in heard),
        rps=share * sum(stat.request_count - stat.proxied_request_count for stat in heard),
    )


class Scraper:
    """Connections to the admin ports of pods."""

    def __init__(self) -> None:
        self._connections: dict[Address, GetConnection] = {}

    async def scrape(self, address: Address) -> PodStat | None:
        """The pod's last report, or None where it gave none in time."""
        connection = self._connections.get(address)
        try:
            async with asyncio.timeout(SCRAPE_TIMEOUT_S):
                if connection is None or connection.closed:
                    connection = await connect(address, body_bytes_max=BODY_BYTES_MAX)
                    self._connections[address] = connection
                return _parse(await connection.get("/metrics"))
        except (OSError, ValueError):  # Includes the timeout.
            if connection is not None:
                connection.close()
            return None

    def keep(self, addresses: Iterable[Address]) -> None:
        """Closes the connections to all other addresses."""
        for address in self._connections.keys() - set(addresses):
            self._connections.pop(address).close()

    def close(self) -> None:
        self.keep(())


def _parse(body: bytes) -> PodStat:
    try:
        fields = orjson.loads(body)
        return PodStat(
            average_concurrency=float(fields["average_concurrent_requests"]),
            average_proxied_concurrency=float(fields["average_proxied_concurrent_requests"]),
            request_count=float(fields["request_count"]),
            proxied_request_count=float(fields["proxied_request_count"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no stat: {error}") from error
