"""Whether the container behind the proxy is ready: the user's probe, run by the proxy (spec/knative.md 3.5).

Without a period the probe is aggressive: it is tried every 50 ms for up to 10 s, so that a fresh container is found ready at
once. An exec probe is asked as a TCP one: the kubelet runs the command itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ladle.clock import Clock
from ladle.errors import UserError
from ladle.server.http.client import ClientPool
from runtimes.queueproxy.grpc_health import is_serving

_POLL_S = 0.05
_AGGRESSIVE_ATTEMPT_S = 0.1
_AGGRESSIVE_S = 10.0
"""Knative's: poll interval, limit of one attempt, limit of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessProbe:
    """The probe as Knative passes it on. Without `path` and `service` it asks only whether the port accepts connections."""

    path: str | None = None
    """Of an HTTP probe."""
    service: str | None = None
    """Of a gRPC probe: whose health is asked for, "" for all of the server."""
    headers: tuple[tuple[str, str], ...] = ()
    period_s: float = 0.0
    timeout_s: float = 1.0
    success_threshold: int = 1


def parse_probe(text: str) -> ReadinessProbe:
    """The probe in SERVING_READINESS_PROBE; the TCP probe where it is empty, UserError where it is no JSON object."""
    if not text.strip():
        return ReadinessProbe()
    try:
        given = json.loads(text)
    except ValueError as error:
        raise UserError(f"SERVING_READINESS_PROBE is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise UserError("SERVING_READINESS_PROBE must be a JSON object")
    http: Mapping[str, Any] | None = given.get("httpGet")
    path = None if http is None else "/" + str(http.get("path", "")).lstrip("/")
    headers = [] if http is None else http.get("httpHeaders") or []
    grpc: Mapping[str, Any] | None = given.get("grpc")
    return ReadinessProbe(
        path=path,
        service=None if grpc is None else str(grpc.get("service") or ""),
        headers=tuple((str(header["name"]), str(header["value"])) for header in headers),
        period_s=float(given.get("periodSeconds") or 0),
        timeout_s=float(given.get("timeoutSeconds") or 1),
        success_threshold=int(given.get("successThreshold") or 1),
    )


class Prober:
    """Runs one probe against one port. The count of successes outlives a run and starts anew with a failure."""

    def __init__(self, probe: ReadinessProbe, pool: ClientPool, clock: Clock) -> None:
        self._probe = probe
        self._pool = pool
        self._clock = clock
        self._successes = 0

    async def ready(self) -> bool:
        """The verdict: after one attempt, or for an aggressive probe after success or ten seconds."""
        if self._probe.period_s:
            return await self._attempt(self._probe.timeout_s)
        deadline_s = self._clock.monotonic_s() + _AGGRESSIVE_S
        while not await self._attempt(_AGGRESSIVE_ATTEMPT_S):
            if self._clock.monotonic_s() + _POLL_S > deadline_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def _attempt(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                passed = await self._ask()
        except (TimeoutError, OSError):
            passed = False
        self._successes = self._successes + 1 if passed else 0
        return self._successes >= self._probe.success_threshold

    async def _ask(self) -> bool:
        if self._probe.service is not None:
            return await is_serving(self._pool.host, self._pool.port, self._probe.service)
        connection = await self._pool.connection(fresh=True)
        try:
            if self._probe.path is None:
                return True
            head = await connection.request(self._request(self._probe.path), body=None, chunked=False, head_only=False)
            return 200 <= head.status < 400
        finally:
            connection.close()

    def _request(self, path: str) -> bytes:
        given = dict(self._probe.headers)
        host = f"{self._pool.host}:{self._pool.port}"
        headers = {"Host": host, "User-Agent": "kube-probe//", "Connection": "close", **given}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
