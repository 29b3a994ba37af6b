"""Asking pods whether they are ready, while requests wait for them.

Kubernetes' word about a new pod takes a probe of the node, a write, an event, another write and another event. Whoever holds
requests asks the pod's queue-proxy itself, and the answer is there as soon as the pod is.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

from onebox.knative.activator.heads import ResponseHead
from onebox.knative.activator.pods import PodConnection, PodFailed, PodPool
from onebox.knative.activator.targets import Target
from onebox.knative.endpoints import Address

PERIOD_MIN_S = 0.004
PERIOD_MAX_S = 0.2
"""Seconds between two probes of a pod. Knative's is always 0.2 s, which would be the greater part of a cold start here."""
_SHARE_OF_WAIT = 0.01
"""Probing late may make a wait one hundredth longer: a model that loads for 10 s need not be asked every 4 ms."""
_BUDGET_S = 0.0005
"""Seconds of period for each pod that is probed: 2000 probes/s at most, of 0.1 ms each (measured 2026-11), take a fifth of
a core while a hundred revisions start at once."""
PROBE_TIMEOUT_S = 0.3
"""Longest probe; Knative's."""
_HEAD: Final = (
    "GET /healthz HTTP/1.1\r\nhost: {}\r\nuser-agent: Knative-Activator-Probe\r\nk-network-probe: queue\r\n\r\n"
)
_BODY: Final = b"queue"
_BODY_BYTES_MAX: Final = 1024


@dataclass(slots=True)
class _Answer:
    """Takes a probe's answer; implements pods.Client."""

    status: int = 0
    body: bytearray = field(default_factory=bytearray)

    def answer_head(self, head: ResponseHead) -> None:
        self.status = head.status

    def answer_body(self, chunk: bytes) -> None:
        if len(self.body) < _BODY_BYTES_MAX:
            self.body += chunk

    def answer_switched(self, pod: PodConnection, first: bytes) -> None:  # noqa: ARG002  # The Protocol's signature.
        pod.fail(PodFailed("switched protocols on a probe"))

    def set_reading(self, reading: bool) -> None:
        """There is no body to read."""


def probe_period_s(waited_s: float, pods: int) -> float:
    """How long until the next round, when the requests have waited for so long and so many pods are probed."""
    return min(PERIOD_MAX_S, max(PERIOD_MIN_S, _SHARE_OF_WAIT * waited_s, _BUDGET_S * pods))


class Prober:
    """Probes pods of revisions for which requests wait."""

    def __init__(self, pool: PodPool, tasks: asyncio.TaskGroup) -> None:
        self._pool = pool
        self._tasks = tasks
        self._active: set[Target] = set()
        self._probing: set[tuple[Target, Address]] = set()

    def watch(self, target: Target) -> None:
        """Probes this revision's pods for as long as requests wait for it."""
        if target not in self._active:
            self._active.add(target)
            self._tasks.create_task(self._probe_while_waiting(target))

    async def is_ready(self, address: Address) -> bool:
        """Whether the pod says that it is ready. The connection is kept for the request that waits for it."""
        connection: PodConnection | None = None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                connection = self._pool.take(address) or await self._pool.connect(address)
                answer = _Answer()
                done = connection.send(_HEAD.format(address).encode(), answer, method=b"GET", chunked=False)
                connection.end_body()
                await done
        except (OSError, PodFailed):
            return False
        finally:
            if connection is not None:
                self._pool.give(connection)
        return answer.status == 200 and answer.body == _BODY

    async def _probe_while_waiting(self, target: Target) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            while target.throttle.waiting:
                target.pods_changed.clear()
                addresses = target.throttle.unusable(ready_only=not target.limits.trusts_probes)
                for address in addresses:
                    self._begin(target, address)
                period_s = probe_period_s(loop.time() - started_s, len(self._active) * len(addresses))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(period_s):
                        await target.pods_changed.wait()
        finally:
            self._active.discard(target)

    def _begin(self, target: Target, address: Address) -> None:
        probe = (target, address)
        if probe not in self._probing:
            self._probing.add(probe)
            self._tasks.create_task(self._probe(target, address))

    async def _probe(self, target: Target, address: Address) -> None:
        try:
            if await self.is_ready(address):
                target.throttle.set_usable(address, usable=True)
        finally:
            self._probing.discard((target, address))
