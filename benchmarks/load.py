"""A small load generator: one thread and one keep-alive connection each; it stops by itself after a number of seconds."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it; times in milliseconds."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failures: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    port: int
    path: str
    headers: Mapping[str, str]
    body: bytes


def run(target: Target, *, connections: int, duration_s: float) -> Load:
    """Sends as many requests as `connections` connections carry in `duration_s` seconds."""
    latencies_s: list[float] = []
    failures: list[int] = []
    deadline_s = time.perf_counter() + duration_s
    threads = [
        threading.Thread(target=_send, args=(target, deadline_s, latencies_s, failures)) for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    percentiles = statistics.quantiles(latencies_s, n=100)
    return Load(
        requests_per_s=len(latencies_s) / duration_s,
        p50_ms=percentiles[49] * 1e3,
        p99_ms=percentiles[98] * 1e3,
        failures=len(failures),
    )


def _send(target: Target, deadline_s: float, latencies_s: list[float], failures: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
    while (started_s := time.perf_counter()) < deadline_s:
        connection.request("POST", target.path, target.body, dict(target.headers))
        response = connection.getresponse()
        response.read()
        if response.status != http.client.OK:
            failures.append(response.status)
        latencies_s.append(time.perf_counter() - started_s)
    connection.close()
