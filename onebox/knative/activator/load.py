"""The load that the activator sees, told to the autoscaler (spec/knative.md 2.3).

The first request of a revision that was idle is told at once, as one request: that is what brings its first pod. The next
report leaves that one out. The link to the autoscaler is made again whenever it breaks, and then every revision with
requests is told anew, for an autoscaler that has just started knows nothing of those who wait.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from controller.base.clock import Clock
from controller.base.logging import get_logger
from controller.base.unix_socket import connected
from controller.reconcile.plan import Key
from ladle.server.stats import REPORT_PERIOD_S, ConcurrencyStats
from onebox.knative.stats_link import ActivatorStat, encode_stat

RECONNECT_MIN_S = 0.02
RECONNECT_MAX_S = 0.5
"""Waiting between attempts doubles between these. A guess: an engine is back within a second, and requests wait for it."""
_UNSENT_BYTES_MAX = 1024 * 1024
"""Reports are dropped while so much waits for an autoscaler that does not read: the next ones say more. A guess."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Entry:
    stats: ConcurrencyStats
    told: int = 1  # Requests that the autoscaler has heard of ahead of the next report.


class LoadBook:
    """Requests by revision. (No I/O; the caller has the time.)"""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}

    def arrive(self, key: Key, now_s: float) -> ActivatorStat | None:
        """Counts a request; the stat to send at once where its revision was idle."""
        entry = self._entries.get(key)
        first = entry is None
        if entry is None:
            entry = self._entries[key] = _Entry(ConcurrencyStats(now_s))
        entry.stats.arrive(now_s, proxied=False)
        return _stat(key, 1.0, 1.0) if first else None

    def depart(self, key: Key, now_s: float) -> None:
        self._entries[key].stats.depart(now_s, proxied=False)

    def report(self, now_s: float) -> list[ActivatorStat]:
        """One stat for each revision that had requests, or has just fallen silent; silent ones are forgotten."""
        stats = []
        for key, entry in list(self._entries.items()):
            report = entry.stats.report(now_s)
            told, entry.told = entry.told, 0
            concurrency = max(0.0, report.average_concurrency - told)
            stats.append(_stat(key, concurrency, max(0.0, report.request_count - told)))
            if report.average_concurrency == 0 and entry.stats.concurrency == 0:
                del self._entries[key]
        return stats

    def waiting(self) -> list[ActivatorStat]:
        """The requests of this moment, for an autoscaler that knows nothing yet."""
        return [
            _stat(key, float(entry.stats.concurrency), 0.0)
            for key, entry in self._entries.items()
            if entry.stats.concurrency > 0
        ]


def _stat(key: Key, concurrency: float, count: float) -> ActivatorStat:
    return ActivatorStat(
        namespace=key.namespace, name=key.name, average_concurrent_requests=concurrency, request_count=count
    )


class LoadLink:
    """The connection to the autoscaler."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._book = LoadBook()
        self._writer: asyncio.StreamWriter | None = None

    @property
    def up(self) -> bool:
        return self._writer is not None

    def arrive(self, key: Key) -> None:
        first = self._book.arrive(key, self._clock.monotonic_s())
        if first is not None:
            self._send([first])

    def depart(self, key: Key) -> None:
        self._book.depart(key, self._clock.monotonic_s())

    async def run(self) -> None:
        """Keeps the connection, and reports each second, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connect_forever())
            group.create_task(self._report_forever())

    async def _report_forever(self) -> None:
        while True:
            await asyncio.sleep(REPORT_PERIOD_S)
            self._send(self._book.report(self._clock.monotonic_s()))

    async def _connect_forever(self) -> None:
        delay_s = RECONNECT_MIN_S
        while True:
            try:
                async with connected(self._path) as (reader, writer):
                    log.info("connected to the autoscaler")
                    delay_s = RECONNECT_MIN_S
                    self._writer = writer
                    self._send(self._book.waiting())
                    await reader.read()  # It says nothing; the end of the stream is the end of the autoscaler.
            except OSError as error:
                log.debug("autoscaler not reached", error=str(error), retry_s=delay_s)
            finally:
                self._writer = None
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RECONNECT_MAX_S)

    def _send(self, stats: list[ActivatorStat]) -> None:
        writer = self._writer
        if writer is None or writer.transport.get_write_buffer_size() > _UNSENT_BYTES_MAX:
            return
        writer.write(b"".join(encode_stat(stat) for stat in stats))
