"""Keeps Envoy in step with the translation, and tells the world how far it got.

Two loops: endpoints go to their files at once, since pods come and go and requests follow; tables go one after the other,
each after Envoy's word on the last, so that a burst of changes becomes few tables. At most a third of Envoy's time is
spent on reading tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from controller.api.istio import ISTIO_API_VERSION
from controller.base.clock import Clock
from controller.base.json import JsonObject
from controller.base.logging import get_logger
from controller.kube.events import EventRecorder
from onebox.istio.admin import CLUSTERS, EnvoyAway
from onebox.istio.files import ConfigFiles
from onebox.istio.live import LiveConfig, VersionId
from onebox.istio.publisher import Publisher, Refusal
from onebox.istio.translation import Desired, Finding, Translation

_COALESCE_S = 0.002
"""A new route, its service and its endpoints come as events within this time: one set of tables instead of two."""
_FREE_S = 0.01
"""Time with Envoy that needs no rest afterwards: a few services' tables take less."""
_REST_FACTOR = 2.0
_REST_MAX_S = 1.0
_AWAY_PAUSE_S = 0.05
_AWAY_PAUSE_MAX_S = 0.5
"""How often an absent Envoy is looked for; the supervisor brings it back in about 0.3 s."""
_AWAY_LONG_S = 3.0
"""An Envoy that is away this long may be unable to start with the endpoint files that there are. A guess, ten times what
a restart takes."""
_AUDIT_S = 5.0
"""How often Envoy is asked whether it still has what it confirmed. A guess; it costs a millisecond."""
_EVENTS_MAX = 256
"""Events that wait to be recorded; more are only logged."""
REFUSED = "RefusedByEnvoy"

log = get_logger(__name__)


class GatewayKeeper:
    """The only one who writes Envoy's files while it runs."""

    def __init__(
        self,
        translation: Translation,
        publisher: Publisher,
        files: ConfigFiles,
        *,
        live: LiveConfig,
        clock: Clock,
        sources_ready: Callable[[], Awaitable[None]],
    ) -> None:
        self._translation = translation
        self._publisher = publisher
        self._files = files
        self._live = live
        self._clock = clock
        self._sources_ready = sources_ready
        self._tables_changed = asyncio.Event()
        self._tables_changed.set()  # What an earlier run left may be wrong even if nothing is there any more.
        self._published = False
        self._endpoints_changed = asyncio.Event()
        self._told: set[Finding] = set()
        self._events: asyncio.Queue[Finding] = asyncio.Queue(_EVENTS_MAX)
        self._away_since_s: float | None = None

    def wake(self) -> None:
        """The translation took a change."""
        self._endpoints_changed.set()
        self._tables_changed.set()

    async def keep_endpoints(self) -> None:
        """Writes endpoint files as they change, until cancelled."""
        while True:
            await self._endpoints_changed.wait()
            self._endpoints_changed.clear()
            await self._sources_ready()
            # In the loop: a file of 1 kB takes 0.1 ms, a thread for it as much again, and requests wait for it.
            for cluster, assignment in self._translation.clusters.take_endpoints().items():
                try:
                    self._files.write_endpoints(cluster, assignment)
                except OSError as error:
                    log.warning("endpoints not written", cluster=cluster, error=str(error))

    async def keep_tables(self) -> None:
        """Brings tables into force as they change, until cancelled."""
        pause_s = _AWAY_PAUSE_S
        while True:
            await self._changed_or_due()
            await self._sources_ready()
            try:
                await self._publish()
                pause_s = _AWAY_PAUSE_S
            except (EnvoyAway, OSError) as error:
                self._note_away(error)
                self._tables_changed.set()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _AWAY_PAUSE_MAX_S)

    async def record_events(self, recorder: EventRecorder) -> None:
        """Writes what owners should know as events, until cancelled."""
        while True:
            finding = await self._events.get()
            regarding = _reference(finding.version)
            await recorder.record(regarding, type_="Warning", reason=finding.reason, message=finding.message)

    async def _changed_or_due(self) -> None:
        try:
            async with asyncio.timeout(_AUDIT_S):
                await self._tables_changed.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_COALESCE_S)

    async def _publish(self) -> None:
        if not self._tables_changed.is_set():
            await self._publisher.audit()
            return
        self._tables_changed.clear()
        if self._published and not self._translation.is_stale():
            return
        desired = self._translation.render()
        refusals = await self._publisher.publish(desired)
        self._published = True
        if self._away_since_s is not None:
            log.info("gateway is back", away_s=round(self._clock.monotonic_s() - self._away_since_s, 2))
            self._away_since_s = None
        self._tell([*desired.findings, *(finding for refusal in refusals for finding in self._findings(refusal))])
        self._confirm(desired)
        await asyncio.sleep(min(_REST_MAX_S, _REST_FACTOR * max(0.0, self._publisher.spent_s - _FREE_S)))

    def _confirm(self, desired: Desired) -> None:
        for offer in desired.offers:
            if self._publisher.is_in_force(offer, desired):
                self._translation.confirmed(offer.version)
                self._live.accept(offer.version)
                version = offer.version
                log.info("in force", namespace=version.namespace, name=version.name, generation=version.generation)

    def _findings(self, refusal: Refusal) -> list[Finding]:
        log.warning("refused by Envoy", table=refusal.table, name=refusal.name, reason=refusal.reason)
        is_cluster = refusal.table == CLUSTERS
        owners = self._translation.users_of if is_cluster else self._translation.owners_of
        message = f"Envoy refuses {refusal.name}: {refusal.reason}; what was in force before stays"
        return [Finding(version, REFUSED, message, refused=True) for version in owners(refusal.name)]

    def _tell(self, findings: list[Finding]) -> None:
        for finding in findings:
            if finding in self._told:
                continue
            if finding.refused:
                self._live.refuse(finding.version, finding.message)
            try:
                self._events.put_nowait(finding)
            except asyncio.QueueFull:
                log.warning("event dropped", reason=finding.reason, virtual_service=finding.version.name)
        # What Envoy refused is reported once, what the translation finds each time: only the latter need be remembered.
        self._told = set(findings)

    def _note_away(self, error: Exception) -> None:
        now_s = self._clock.monotonic_s()
        if self._away_since_s is None:
            self._away_since_s = now_s
            log.warning("gateway does not answer", error=str(error))
        if now_s - self._away_since_s > _AWAY_LONG_S and self._translation.clusters.give_up_files():
            log.warning("gateway is away for long, giving up endpoint files")
            self._publisher.write_blindly(self._translation.render())


def _reference(version: VersionId) -> JsonObject:
    meta = {"namespace": version.namespace, "name": version.name, "uid": version.uid}
    return {"apiVersion": ISTIO_API_VERSION, "kind": "VirtualService", "metadata": meta}
