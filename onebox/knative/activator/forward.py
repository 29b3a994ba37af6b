"""The way of one request: found its revision, counted, waiting for a place, in a pod, answered.

A request is sent to one pod once. Only where no connection could be made at all, so that nothing was sent, is another
pod tried, or the same one when it is back.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from controller.base.clock import Clock
from controller.base.logging import get_logger
from controller.reconcile.plan import Key
from onebox.knative.activator.clients import Exchange
from onebox.knative.activator.heads import Header, RequestHead, render_request
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.load import LoadLink
from onebox.knative.activator.pods import PodConnection, PodFailed, PodPool
from onebox.knative.activator.probes import Prober
from onebox.knative.activator.targets import RevisionLimits, Target, Targets
from onebox.knative.activator.throttle import Pod, QueueFull
from onebox.knative.endpoints import Address

TIMEOUT_TEXT: Final = "activator request timeout"
FULL_TEXT: Final = "pending request queue full\n"
"""Knative's own words; clients and tests look for them."""
_RETRY_AFTER: Final = (b"retry-after", b"1")
_NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
_SYNC_MAX_S: Final = 10.0
"""How long the first requests of a new activator wait for it to know the revisions. A guess: it takes a fraction of a
second, unless the API server is down as well."""

log = get_logger(__name__)


class Refusal(Exception):
    """The answer to a request that no pod will answer."""

    def __init__(self, status: int, text: str, headers: tuple[Header, ...] = (_NO_SNIFF,)) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


class _RequestTimeout(Exception):
    """One of the revision's limits has passed."""


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

    def __init__(
        self, targets: Targets, load: LoadLink, *, pool: PodPool, prober: Prober, limits: Limits, clock: Clock
    ) -> None:
        self._targets = targets
        self._load = load
        self._pool = pool
        self._prober = prober
        self._limits = limits
        self._clock = clock

    async def serve(self, exchange: Exchange) -> None:
        """Answers one request. Cancelled when its client goes away."""
        try:
            target = await self._find(exchange.head)
            await self._count(exchange, target)
        except Refusal as refusal:
            exchange.reply(refusal.status, refusal.text, refusal.headers)
        except Exception:  # The top of a request: a bug in one must not end the others.
            log.exception("request failed", target=exchange.head.line.target.decode("latin-1"))
            if exchange.started:
                exchange.abort()
            else:
                exchange.reply(500)

    async def _count(self, exchange: Exchange, target: Target) -> None:
        arrived_s, cold = self._clock.monotonic_s(), target.throttle.is_cold
        self._load.arrive(target.key)
        try:
            await self._forward(exchange, target)
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

    async def _forward(self, exchange: Exchange, target: Target) -> None:
        deadline_s = asyncio.get_running_loop().time() + target.limits.timeout_s
        for _ in range(self._limits.connect_attempts_max):
            pod = target.throttle.try_take() or await self._wait(exchange, target, deadline_s)
            connection: PodConnection | None = None
            try:
                connection = self._pool.take(pod.address) or await self._pool.connect(pod.address)
                await self._exchange(exchange, connection, target.limits)
                return
            except OSError as error:
                if connection is not None:
                    raise
                failure = dial_error(pod.address, error)
                target.throttle.set_usable(pod.address, usable=False)
            finally:
                if connection is not None:
                    self._pool.give(connection)
                target.throttle.release(pod)
        raise Refusal(502, failure)

    async def _wait(self, exchange: Exchange, target: Target, deadline_s: float) -> Pod:
        self._prober.watch(target)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await target.throttle.take(exchange.held_bytes)
        except QueueFull:
            raise Refusal(503, FULL_TEXT, (_NO_SNIFF, _RETRY_AFTER)) from None
        except TimeoutError:
            raise Refusal(504, TIMEOUT_TEXT, ()) from None

    async def _exchange(self, exchange: Exchange, connection: PodConnection, limits: RevisionLimits) -> None:
        head = exchange.head
        request = render_request(head, connection.address)
        done = connection.send(request, exchange, method=head.line.method, chunked=head.chunked)
        exchange.attach(connection)
        watch = _Watch(exchange, connection, limits=limits, clock=self._clock)
        try:
            await done
        except _RequestTimeout:
            if exchange.started:
                exchange.finish_late(TIMEOUT_TEXT)
            else:
                raise Refusal(504, TIMEOUT_TEXT, ()) from None
        except PodFailed as error:
            if exchange.started:
                exchange.abort()
            else:
                raise Refusal(502, f"{error}\n") from None
        else:
            exchange.finish()
        finally:
            watch.stop()
            exchange.detach()


class _Watch:
    """The limits of one request in a pod."""

    def __init__(self, exchange: Exchange, connection: PodConnection, *, limits: RevisionLimits, clock: Clock) -> None:
        self._exchange = exchange
        self._connection = connection
        self._idle_s = limits.idle_s
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timers = [self._loop.call_later(limits.timeout_s, self._expire)]
        if limits.response_start_s:
            self._later(limits.response_start_s, self._check_started)
        if limits.idle_s:
            self._later(limits.idle_s, self._check_idle)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _later(self, delay_s: float, check: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay_s, check))

    def _check_started(self) -> None:
        if not self._exchange.started:
            self._expire()

    def _check_idle(self) -> None:
        written_s = self._exchange.last_written_s
        rest_s = 0.0 if written_s is None else written_s + self._idle_s - self._clock.monotonic_s()
        if rest_s <= 0:
            self._expire()
        else:
            self._later(rest_s, self._check_idle)

    def _expire(self) -> None:
        self._connection.fail(_RequestTimeout())


def dial_error(address: Address, error: OSError) -> str:
    """A failed connection in the words of Go's net package, which Knative's clients know."""
    why = "i/o timeout" if isinstance(error, TimeoutError) else f"connect: {_errno_text(error)}"
    return f"dial tcp {address}: {why}\n"


def _errno_text(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
