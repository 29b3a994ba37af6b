"""The way of one request: found its revision, counted, waiting for a place, in a pod, answered.

A request is sent to one pod once. Only where no connection could be made at all, so that nothing was sent, is another
pod tried, or the same one when it is back.
"""

from __future__ import annotations

import asyncio
from typing import Final

from controller.base.clock import Clock
from controller.base.logging import get_logger
from controller.reconcile.plan import Key
from onebox.knative.activator.carriers import TIMEOUT_TEXT, Carry, ConnectFailed, Forwarded, Refusal
from onebox.knative.activator.heads import RequestHead
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.load import LoadLink
from onebox.knative.activator.probes import Prober
from onebox.knative.activator.targets import Target, Targets
from onebox.knative.activator.throttle import Pod, QueueFull

FULL_TEXT: Final = "pending request queue full\n"
"""Knative's own words; clients and tests look for them."""
_RETRY_AFTER: Final = (b"retry-after", b"1")
_NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
_SYNC_MAX_S: Final = 10.0
"""How long the first requests of a new activator wait for it to know the revisions. A guess: it takes a fraction of a
second, unless the API server is down as well."""

log = get_logger(__name__)


def revision_of(head: RequestHead) -> Key | None:
    """The revision that a request is for: of Knative's headers, else of a cluster-local host `<revision>.<namespace>.svc`."""
    if head.revision and head.namespace:
        return Key(head.namespace, head.revision)
    parts = head.host.partition(":")[0].split(".", 3)
    if len(parts) == 4 and parts[2] == "svc" and parts[3] == "cluster.local":
        return Key(parts[1], parts[0])
    return None


class Forwarder:
    """Brings requests to pods."""

    def __init__(self, targets: Targets, load: LoadLink, *, prober: Prober, limits: Limits, clock: Clock) -> None:
        self._targets = targets
        self._load = load
        self._prober = prober
        self._limits = limits
        self._clock = clock

    async def serve(self, exchange: Forwarded, carry: Carry) -> None:
        """Answers one request, by a pod that `carry` brings it to. Cancelled when its client goes away."""
        try:
            target = await self._find(exchange.head)
            await self._count(exchange, carry, target)
        except Refusal as refusal:
            exchange.reply(refusal.status, refusal.text, refusal.headers)
        except Exception:  # The top of a request: a bug in one must not end the others.
            log.exception("request failed", target=exchange.head.line.target.decode("latin-1"))
            if exchange.started:
                exchange.abort()
            else:
                exchange.reply(500)

    async def _count(self, exchange: Forwarded, carry: Carry, target: Target) -> None:
        arrived_s, cold = self._clock.monotonic_s(), target.throttle.is_cold
        self._load.arrive(target.key)
        try:
            await self._forward(exchange, carry, target)
        except Refusal as refusal:
            exchange.reply(refusal.status, refusal.text, refusal.headers)
        finally:
            self._load.depart(target.key)
            target.counts.answered(exchange.status, self._clock.monotonic_s() - arrived_s)
            if cold:
                target.counts.started_cold(exchange.status, (exchange.started_s or arrived_s) - arrived_s)

    async def _find(self, head: RequestHead) -> Target:
        key = revision_of(head)
        if key is not None and (target := self._targets.get(key)) is not None:
            return target
        try:
            async with asyncio.timeout(_SYNC_MAX_S):
                await self._targets.synced()
        except TimeoutError:
            raise Refusal(503, "revisions are not known yet\n", (_RETRY_AFTER,)) from None
        if key is not None and (target := self._targets.get(key)) is not None:
            return target
        name = key.name if key is not None else ""
        raise Refusal(404, f'Error getting active endpoint: revision.serving.knative.dev "{name}" not found\n')

    async def _forward(self, exchange: Forwarded, carry: Carry, target: Target) -> None:
        deadline_s = asyncio.get_running_loop().time() + target.limits.timeout_s
        for _ in range(self._limits.connect_attempts_max):
            pod = target.throttle.try_take() or await self._wait(exchange, target, deadline_s)
            try:
                await carry(pod.address, target.limits)
                return
            except ConnectFailed as error:
                failure = str(error)
                target.throttle.set_usable(pod.address, usable=False)
            finally:
                target.throttle.release(pod)
        raise Refusal(502, failure)

    async def _wait(self, exchange: Forwarded, target: Target, deadline_s: float) -> Pod:
        self._prober.watch(target)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await target.throttle.take(exchange.held_bytes)
        except QueueFull:
            raise Refusal(503, FULL_TEXT, (_NO_SNIFF, _RETRY_AFTER)) from None
        except TimeoutError:
            raise Refusal(504, TIMEOUT_TEXT, ()) from None
