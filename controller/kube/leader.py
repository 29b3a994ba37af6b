"""One leader among several replicas of a controller, by a Lease that it renews.

A replica trusts no other machine's clock: it waits until the Lease has not changed for its whole duration, by its own clock,
before it takes over. A leader that cannot renew in time stops its work before anybody else can start.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controller.base.clock import Clock, rfc3339_micro
from controller.base.errors import TransientError
from controller.base.json import JsonObject, JsonView
from controller.base.logging import get_logger
from controller.kube.client import KubeClient
from controller.kube.errors import AlreadyExists, Conflict, NotFound
from controller.kube.resources import LEASES

log = get_logger(__name__)


class LeadershipLost(TransientError):
    """The Lease could not be renewed in time; the work was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """How long leadership lasts; Kubernetes' own controllers use these values."""

    duration_s: float = 15.0
    """How long a silent leader is still respected."""
    renew_deadline_s: float = 10.0
    """How long a leader goes on without a renewal that worked; below `duration_s`."""
    retry_s: float = 2.0
    """Pause between attempts to take or renew the Lease."""


class LeaderElection:
    """Takes part in the election for the Lease `namespace/name` as `identity`."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        settings: LeaseSettings | None = None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._settings = settings or LeaseSettings()
        self._rng = random.Random(identity)  # noqa: S311 - jitter needs no secrecy
        self._seen_version = ""
        self._seen_at_s = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Waits to become leader, then runs `work` to its end; LeadershipLost where the Lease was lost before that.

        On the way out, cancellation included, the Lease is released so that the next replica need not wait.
        """
        while True:
            if await self._try():
                break
            await asyncio.sleep(self._settings.retry_s * self._rng.uniform(1.0, 1.2))
        log.info("leading", lease=self._name, identity=self._identity)
        try:
            async with asyncio.TaskGroup() as tasks:
                renewal = tasks.create_task(self._renew())
                await work()
                renewal.cancel()
        except* LeadershipLost as lost:
            raise LeadershipLost(f"lease {self._namespace}/{self._name} was lost") from lost
        finally:
            await self._release()

    async def _renew(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._settings.renew_deadline_s):
                    await self._renew_once()
            except TimeoutError:
                raise LeadershipLost from None

    async def _renew_once(self) -> None:
        while True:
            await asyncio.sleep(self._settings.retry_s)
            if await self._try():
                return

    async def _try(self) -> bool:
        """Takes or renews the Lease if that is ours to do now."""
        try:
            async with asyncio.timeout(self._settings.renew_deadline_s / 2):
                return await self._take_or_renew()
        except (AlreadyExists, Conflict):
            return False  # Somebody was faster.
        except (TransientError, TimeoutError) as error:
            log.warning("lease not reached", lease=self._name, error=str(error) or "deadline passed")
            return False

    async def _take_or_renew(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            meta = {"name": self._name, "namespace": self._namespace}
            body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": meta}
            await self._client.create(LEASES, {**body, "spec": self._spec({})})
            return True
        if not self._may_hold(lease):
            return False
        await self._client.replace(LEASES, {**lease, "spec": self._spec(lease.get("spec") or {})})
        return True

    def _may_hold(self, lease: JsonView) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        if lease["metadata"]["resourceVersion"] != self._seen_version:
            self._seen_version, self._seen_at_s = lease["metadata"]["resourceVersion"], self._clock.monotonic_s()
        duration_s = float(spec.get("leaseDurationSeconds") or self._settings.duration_s)
        return self._clock.monotonic_s() - self._seen_at_s >= duration_s

    def _spec(self, old: JsonView) -> JsonObject:
        now = rfc3339_micro(self._clock.wall_s())
        kept = old.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._settings.duration_s),
            "acquireTime": old.get("acquireTime", now) if kept else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (1 if old and not kept else 0),
        }

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(self._settings.retry_s):
                lease = await self._client.get(LEASES, self._name, self._namespace)
                if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                    await self._client.replace(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": ""}})
        except (TransientError, TimeoutError) as error:
            log.info("lease not released", lease=self._name, error=str(error) or "deadline passed")
