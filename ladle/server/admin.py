"""The second port of a pod: what the autoscaler reads each second, and the drain that the node asks for.

GET /metrics          the last whole second of concurrency: Knative's Stat as protobuf, or JSON
GET /wait-for-drain   starts the drain, answers when it is quiet
GET /prometheus       the queue-proxy's own metrics as Prometheus' text, where it has any
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ladle.clock import Clock
from ladle.server.http.application import Answer
from ladle.server.http.messages import TEXT, Request, Response
from ladle.server.metrics import Counter, render_page
from ladle.server.stats import REPORT_PERIOD_S, ConcurrencyStats, Report

PROTOBUF = b"application/protobuf"
_DOUBLE = struct.Struct("<d")
_WIRE_DOUBLE = 1
_WIRE_BYTES = 2


class Reports(Protocol):
    """Where the last period of each process of a server is, and their sum."""

    def publish(self, report: Report) -> None:
        """This process's last whole period."""

    def total(self) -> Report:
        """All processes' together."""


class OwnReport:
    """The report of the only process that there is."""

    def __init__(self) -> None:
        self._last = Report()

    def publish(self, report: Report) -> None:
        self._last = report

    def total(self) -> Report:
        return self._last


class StatsReporter:
    """Closes a period of the statistics every second and answers with the last one."""

    def __init__(self, stats: ConcurrencyStats, *, clock: Clock, pod: str, reports: Reports | None = None) -> None:
        """`reports` where several processes are one server."""
        self._stats = stats
        self._clock = clock
        self._pod = pod
        self._began_s = clock.monotonic_s()
        self._reports = reports or OwnReport()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(REPORT_PERIOD_S, self._close_period)

    def close(self) -> None:
        self._timer.cancel()

    def _close_period(self) -> None:
        self._reports.publish(self._stats.report(self._clock.monotonic_s()))
        self._timer = self._loop.call_later(REPORT_PERIOD_S, self._close_period)

    def answer(self, request: Request) -> Response:
        """The last whole period, in the form that the client accepts."""
        uptime_s = self._clock.monotonic_s() - self._began_s
        report = self._reports.total()
        if PROTOBUF in request.headers.get(b"accept", b""):
            return Response(200, encode_stat(self._pod, report, uptime_s), content_type=PROTOBUF)
        return Response(200, json.dumps(stat_json(self._pod, report, uptime_s)).encode())


def stat_json(pod: str, report: Report, uptime_s: float) -> dict[str, object]:
    """Knative's Stat with names; counts are per second, since a period is one."""
    return {
        "pod": pod,
        "average_concurrent_requests": report.average_concurrency,
        "average_proxied_concurrent_requests": report.average_proxied_concurrency,
        "request_count": float(report.request_count),
        "proxied_request_count": float(report.proxied_request_count),
        "process_uptime_s": uptime_s,
    }


def encode_stat(pod: str, report: Report, uptime_s: float) -> bytes:
    """Knative's Stat message (spec/knative.md 3.8): strings and doubles only, so it needs no protobuf library."""
    numbers = (
        report.average_concurrency,
        report.average_proxied_concurrency,
        float(report.request_count),
        float(report.proxied_request_count),
        uptime_s,
    )
    name = pod.encode()
    message = bytes([1 << 3 | _WIRE_BYTES, len(name)]) + name if name else b""
    for field, value in enumerate(numbers, start=2):
        if value:  # proto3 leaves zeros out.
            message += bytes([field << 3 | _WIRE_DOUBLE]) + _DOUBLE.pack(value)
    return message


class AdminHandler:
    """An http Handler for the admin port."""

    def __init__(
        self, reporter: StatsReporter, drain: Callable[[], Awaitable[None]], instruments: Sequence[Counter] = ()
    ) -> None:
        """`drain` starts to drain, and returns when that is done. `instruments`: what /prometheus shows."""
        self._reporter = reporter
        self._drain = drain
        self._instruments = instruments

    def __call__(self, request: Request) -> Answer:
        match request.path:
            case "/metrics":
                return self._reporter.answer(request)
            case "/wait-for-drain":
                return self._wait()
            case "/prometheus":
                return Response(200, render_page(self._instruments), content_type=TEXT)
            case _:
                return Response(404, b"404 page not found\n", content_type=TEXT)

    async def _wait(self) -> Response:
        await self._drain()
        return Response(200, content_type=b"")
