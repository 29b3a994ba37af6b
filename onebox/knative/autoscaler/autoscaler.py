"""The autoscaler at work: reads loads, decides, writes replicas. It alone writes spec.replicas of revisions' Deployments.

    pods' admin ports, each second ──┐
    activator's lines, as they come ─┴─> windows ─> decide, each 2 s and at a first request ─> plan ─> PATCH, report

Everything it decides comes from what is there now, so that a restart only costs it the windows: until those are filled
again it takes nothing away (decision.initial_state, gate.restored_state).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass

from controller.base.clock import Clock
from controller.base.errors import UserError
from controller.base.exposition import Family, Histogram
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.base.unix_socket import start_server
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.informer import Change, ChangeKind, Informer
from controller.kube.resources import DEPLOYMENTS
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome
from onebox.home import Home
from onebox.istio.bootstrap import admin_socket
from onebox.knative.autoscaler.decision import TICK_S
from onebox.knative.autoscaler.gate import ScalePlan
from onebox.knative.autoscaler.metrics import ScaledRevision, collect_scaling
from onebox.knative.autoscaler.path import EnvoyPath, RequestPath
from onebox.knative.autoscaler.report import ScaleBoard
from onebox.knative.autoscaler.revision import (
    PROXY_RETRY_S,
    STEPS_MAX,
    RevisionScaler,
    RevisionView,
    parse_revision,
)
from onebox.knative.autoscaler.scaling import PROGRESS_DEADLINE_S, RevisionScaling, build_scaling
from onebox.knative.autoscaler.scrape import SCRAPE_PERIOD_S, Scraper, total_load
from onebox.knative.autoscaler.settings import (
    CONFIG_NAME,
    CONFIG_NAMESPACE,
    AutoscalerSettings,
    parse_autoscaler_settings,
)
from onebox.knative.endpoints import Address, leads_to, parse_endpoints, ready_count
from onebox.knative.names import deployment_name, private_service_name
from onebox.knative.revision_labels import revision_labels
from onebox.knative.settings.deployment import parse_deployment
from onebox.knative.stats_link import ActivatorStat, decode_stat, socket_path

FIELD_MANAGER = "autoscaler"
_DEPLOYMENT_CONFIG_NAME = "config-deployment"
_WORKERS = 8
"""Revisions that are written at once; enough to keep the API server busy. A guess."""
_TICK_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Around the budget of 200 ms for 1,000 revisions."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerInformers:
    """What the autoscaler looks at; whoever makes it runs them."""

    revisions: Informer
    deployments: Informer
    endpoints: Informer
    config_maps: Informer
    """Of the namespace knative-serving, or of all."""

    def all(self) -> tuple[Informer, ...]:
        return self.revisions, self.deployments, self.endpoints, self.config_maps


@dataclass(slots=True)
class _Path:
    """That the Endpoints of a revision lead to the activator."""

    since_s: float
    verified: bool = False
    """The gateway really does it."""


class Autoscaler:
    """Scales every Revision between its bounds, and reports to the board."""

    def __init__(
        self,
        client: KubeClient,
        informers: AutoscalerInformers,
        *,
        board: ScaleBoard,
        home: Home,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._client = client
        self._informers = informers
        self._board = board
        self._clock = clock
        self._socket = socket_path(home)
        self._activator = Address("127.0.0.1", home.settings().activator_port)
        self._gateway: RequestPath = EnvoyPath(admin_socket(home), self._activator)
        self._settings = AutoscalerSettings()
        self._progress_deadline_s = PROGRESS_DEADLINE_S
        self._scalers: dict[Key, RevisionScaler] = {}
        self._paths: dict[Key, _Path] = {}
        self._owners: dict[tuple[str, str], Key] = {}  # (namespace, name of a child) -> revision
        self._scraper = Scraper()
        self._tick_s = Histogram(_TICK_BOUNDS_S)
        self._scraping: set[Key] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._controller = Controller("autoscaler", self._reconcile, workers=_WORKERS, clock=clock, rng=rng)

    async def run(self) -> None:
        """Works until cancelled."""
        for informer in self._informers.all():
            await informer.synced()  # A revision whose pods are not listed yet would look as if it had none.
        self._watch()
        server = await start_server(self._socket, self._on_activator)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._controller.run())
                group.create_task(self._tick_forever())
                group.create_task(self._scrape_forever())
        finally:
            server.close()
            for writer in self._connections:
                writer.close()
            self._scraper.close()

    def collect(self) -> Iterable[Family]:
        """Its metrics."""
        scaled = (self._scaled(key, scaler) for key, scaler in self._scalers.items())
        return (
            *collect_scaling((each for each in scaled if each is not None), self._clock.monotonic_s()),
            self._ticks(),
        )

    def _scaled(self, key: Key, scaler: RevisionScaler) -> ScaledRevision | None:
        revision = self._informers.revisions.get(*key)
        if revision is None:
            return None
        pods = parse_endpoints(self._informers.endpoints.get(key.namespace, private_service_name(key.name)))
        ready = sum(pod.ready for pod in pods)
        return ScaledRevision(labels=revision_labels(revision), scaler=scaler, ready=ready, not_ready=len(pods) - ready)

    def _ticks(self) -> Family:
        family = Family("autoscaler_tick_seconds", "histogram", "From the start of a tick to the last decision of it")
        self._tick_s.add_to(family, "")
        return family

    # What changes in the world.

    def _watch(self) -> None:
        self._informers.config_maps.subscribe(self._on_config)
        self._informers.revisions.subscribe(self._on_revision)
        self._controller.watch(self._informers.revisions, lambda revision: [_key_of(revision)])
        for informer in (self._informers.deployments, self._informers.endpoints):
            self._controller.watch(informer, self._owner_of)

    def _owner_of(self, child: JsonView) -> list[Key]:
        owner = self._owners.get(_key_of(child))
        return [] if owner is None else [owner]

    def _on_revision(self, change: Change) -> None:
        key = _key_of(change.object)
        children = (key.name, deployment_name(key.name), private_service_name(key.name))
        if change.kind is not ChangeKind.DELETED:
            self._owners.update({(key.namespace, child): key for child in children})
            return
        for child in children:
            self._owners.pop((key.namespace, child), None)
        self._forget(key)

    def _on_config(self, change: Change) -> None:
        name = change.object["metadata"]["name"]
        if change.object["metadata"].get("namespace") != CONFIG_NAMESPACE:
            return
        data = {} if change.kind is ChangeKind.DELETED else change.object.get("data") or {}
        try:
            if name == CONFIG_NAME:
                self._settings = parse_autoscaler_settings(data)
            elif name == _DEPLOYMENT_CONFIG_NAME:
                self._progress_deadline_s = parse_deployment(data).progress_deadline_s
            else:
                return
        except UserError as error:  # Nobody would see a refusal here; the last good settings go on.
            log.warning("config map ignored", config_map=name, error=str(error))
            return
        for key in self._scalers:
            self._controller.enqueue(key)

    # One revision.

    async def _reconcile(self, key: Key) -> Outcome:
        scaler = self._refresh(key)
        if scaler is None:
            self._forget(key)
            return Outcome()
        for _ in range(STEPS_MAX):
            ready = self._ready(key)
            proxied_since_s = await self._look_at_path(key, scaler)
            plan = scaler.plan(ready, proxied_since_s=proxied_since_s, now_s=self._clock.monotonic_s())
            self._board.publish(key.namespace, key.name, scaler.report(plan, ready))
            if plan.replicas is not None:
                await self._write(key, scaler, plan)
            if plan.recheck_after_s != 0:
                break
        unproxied = scaler.may_drop and proxied_since_s is None
        return Outcome(requeue_after_s=PROXY_RETRY_S if unproxied else plan.recheck_after_s)

    def _refresh(self, key: Key) -> RevisionScaler | None:
        """The scaler of a revision, as its Revision and Deployment are now; None where one of them is missing."""
        revision = self._informers.revisions.get(*key)
        deployment = self._informers.deployments.get(key.namespace, deployment_name(key.name))
        if revision is None or deployment is None or "deletionTimestamp" in revision["metadata"]:
            return None
        view = parse_revision(revision, deployment)
        now_s = self._clock.monotonic_s()
        scaler = self._scalers.get(key)
        if scaler is None or scaler.view.uid != view.uid:  # A revision that was deleted and made again is another one.
            scaler = RevisionScaler(self._scaling(view), view, ready=self._ready(key), now_s=now_s)
            self._scalers[key] = scaler
        else:
            scaler.configure(self._scaling(view), view, now_s=now_s)
        return scaler

    def _scaling(self, view: RevisionView) -> RevisionScaling:
        return build_scaling(
            view.annotations,
            view.container_concurrency,
            reachable=view.reachable,
            settings=self._settings,
            progress_deadline_s=self._progress_deadline_s,
        )

    async def _look_at_path(self, key: Key, scaler: RevisionScaler) -> float | None:
        """Since when requests go to the activator; None where they do not, or where that was not verified.

        Verified is it only for the last pod, and anew each time that one may go.
        """
        if not leads_to(self._informers.endpoints.get(*key), self._activator):
            self._paths.pop(key, None)
            return None
        path = self._paths.setdefault(key, _Path(self._clock.monotonic_s()))
        path.verified &= scaler.may_drop
        if scaler.may_drop and not path.verified:
            path.verified = await self._gateway.is_proxied(*key)
        return path.since_s if path.verified else None

    async def _write(self, key: Key, scaler: RevisionScaler, plan: ScalePlan) -> None:
        body = {"spec": {"replicas": plan.replicas}}
        name = deployment_name(key.name)
        before = scaler.view.replicas
        try:
            written = await self._client.patch(DEPLOYMENTS, name, key.namespace, body, field_manager=FIELD_MANAGER)
        except NotFound:
            return  # It was deleted, and that change has its own event.
        self._informers.deployments.remember(written)
        self._refresh(key)
        log.info(
            "scaled",
            namespace=key.namespace,
            revision=key.name,
            from_replicas=before,
            to_replicas=plan.replicas,
            panic=scaler.panicking,
        )

    def _ready(self, key: Key) -> int:
        return ready_count(self._informers.endpoints.get(key.namespace, private_service_name(key.name)))

    def _forget(self, key: Key) -> None:
        self._scalers.pop(key, None)
        self._paths.pop(key, None)
        self._board.forget(*key)

    # Loads and decisions.

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            started_s = self._clock.monotonic_s()
            for key, scaler in self._scalers.items():
                self._decide(key, scaler)
            self._tick_s.observe(self._clock.monotonic_s() - started_s)

    def _decide(self, key: Key, scaler: RevisionScaler) -> None:
        if scaler.decide(self._ready(key), self._clock.monotonic_s()):
            self._controller.enqueue(key)

    async def _scrape_forever(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                targets = {key: self._stats_addresses(key) for key in self._scalers}
                self._scraper.keep(address for addresses in targets.values() for address in addresses)
                for key, addresses in targets.items():
                    if addresses and key not in self._scraping:
                        self._scraping.add(key)
                        group.create_task(self._scrape(key, addresses))
                await asyncio.sleep(SCRAPE_PERIOD_S)

    async def _scrape(self, key: Key, addresses: list[Address]) -> None:
        try:
            stats = await asyncio.gather(*(self._scraper.scrape(address) for address in addresses))
        finally:
            self._scraping.discard(key)
        load = total_load(stats, len(addresses))
        if load is None:
            log.debug("too few pods answered", namespace=key.namespace, revision=key.name, pods=len(addresses))
        elif (scaler := self._scalers.get(key)) is not None:
            scaler.record(self._clock.monotonic_s(), concurrency=load.concurrency, rps=load.rps)

    def _stats_addresses(self, key: Key) -> list[Address]:
        pods = parse_endpoints(self._informers.endpoints.get(key.namespace, private_service_name(key.name)))
        addresses = (pod.stats() for pod in pods if pod.ready)
        return list(dict.fromkeys(address for address in addresses if address is not None))

    async def _on_activator(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                self._take(decode_stat(line))
        except (OSError, ValueError) as error:  # It connects again, and repeats what matters.
            log.warning("activator's line ignored", error=str(error))
        finally:
            self._connections.discard(writer)
            writer.close()

    def _take(self, stat: ActivatorStat) -> None:
        key = Key(stat.namespace, stat.name)
        scaler = self._scalers.get(key) or self._refresh(key)
        if scaler is None:
            return  # A revision that is gone, or that we are about to hear of; while requests wait, there are more lines.
        scaler.record(self._clock.monotonic_s(), concurrency=stat.average_concurrent_requests, rps=stat.request_count)
        if stat.average_concurrent_requests > 0 and scaler.decision.desired <= 0:
            self._decide(key, scaler)


def _key_of(item: JsonView) -> Key:
    return Key(item["metadata"].get("namespace", ""), item["metadata"]["name"])
