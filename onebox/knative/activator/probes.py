"""Asking pods whether they are ready, while requests wait for them.

Kubernetes' word about a new pod takes a probe of the node, a write, an event, another write and another event. Whoever holds
requests asks the pod's queue-proxy itself, and the answer is there as soon as the pod is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from onebox.knative.activator.heads import ResponseHead
from onebox.knative.activator.pods import PodConnection, PodFailed, PodPool
from onebox.knative.activator.targets import Target
from onebox.knative.endpoints import Address

PROBE_PERIOD_S = 0.02
"""Seconds between two rounds over pods that are not ready. Knative's is 0.2 s, which would be the greater part of a cold
start here; asking a closed port of this machine costs 0.1 ms."""
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


class Prober:
    """Probes pods of revisions for which requests wait."""

    def __init__(self, pool: PodPool, tasks: asyncio.TaskGroup) -> None:
        self._pool = pool
        self._tasks = tasks
        self._active: set[Target] = set()

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
        probing: set[Address] = set()
        try:
            while target.throttle.waiting:
                target.pods_changed.clear()
                for address in target.throttle.unusable(ready_only=not target.limits.trusts_probes):
                    if address not in probing:
                        probing.add(address)
                        self._tasks.create_task(self._probe(target, address, probing))
                try:
                    async with asyncio.timeout(PROBE_PERIOD_S):
                        await target.pods_changed.wait()
                except TimeoutError:
                    pass
        finally:
            self._active.discard(target)

    async def _probe(self, target: Target, address: Address, probing: set[Address]) -> None:
        try:
            if await self.is_ready(address):
                target.throttle.set_usable(address, usable=True)
        finally:
            probing.discard(address)
