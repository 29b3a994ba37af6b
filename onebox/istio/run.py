"""Runs the Istio part: follows the API's objects and keeps Envoy in step with them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.kube.client import KubeClient
from controller.kube.events import EventRecorder
from controller.kube.informer import Change, ChangeKind, Informer
from controller.kube.resources import (
    DESTINATION_RULES,
    ENDPOINTS,
    GATEWAYS,
    PODS,
    SERVICES,
    VIRTUAL_SERVICES,
    ResourceType,
)
from controller.reconcile.controller import Controller
from onebox.home import Home
from onebox.istio.admin import Admin
from onebox.istio.bootstrap import admin_socket, listener_ports
from onebox.istio.endpoint_files import EndpointFiles, files_max
from onebox.istio.files import ConfigFiles
from onebox.istio.hosts import ServiceKey
from onebox.istio.keeper import GatewayKeeper
from onebox.istio.live import LiveConfig, live_config
from onebox.istio.publisher import Publisher
from onebox.istio.status import StatusReconciler
from onebox.istio.translation import Translation, version_of

COMPONENT = "ladle-gateway"
"""The source of events about VirtualServices."""

_KEPT_METADATA = {
    "name",
    "namespace",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "labels",
    "ownerReferences",
}
_KEPT_PARTS = ("spec", "subsets")
_KEPT_OF_VIRTUAL_SERVICES = ("spec", "status")

Set = Callable[[ServiceKey, JsonView | None], None]


async def run(client: KubeClient, home: Home, clock: Clock, rng: random.Random) -> None:
    """Runs until cancelled. Whatever Envoy accepts is reported to `live_config(home)`."""
    files = ConfigFiles(home.envoy)
    translation = Translation(listener_ports(home.settings()), EndpointFiles(files.endpoints, files_max()))
    async with Admin.open(admin_socket(home)) as admin, asyncio.TaskGroup() as group:
        sources = Sources(client, translation, clock, rng, group)
        keeper = GatewayKeeper(
            translation,
            Publisher(files, admin, clock),
            files,
            live=live_config(home),
            clock=clock,
            sources_ready=sources.ready,
        )
        sources.start(live_config(home), keeper.wake)
        group.create_task(keeper.keep_endpoints())
        group.create_task(keeper.keep_tables())
        group.create_task(keeper.record_events(EventRecorder(client, COMPONENT, clock)))
        group.create_task(sources.status_controller(live_config(home)).run())


class Sources:
    """Live copies of what the translation is made from."""

    def __init__(
        self,
        client: KubeClient,
        translation: Translation,
        clock: Clock,
        rng: random.Random,
        group: asyncio.TaskGroup,
    ) -> None:
        self._translation = translation
        self._group = group
        self._rng = rng
        self._client, self._clock = client, clock
        kinds = (VIRTUAL_SERVICES, GATEWAYS, DESTINATION_RULES, SERVICES, ENDPOINTS)
        self._informers = {resource: self._make(resource) for resource in kinds}
        self._wake: Callable[[], None] = lambda: None

    def start(self, live: LiveConfig, wake: Callable[[], None]) -> None:
        """Begins to follow; `wake` is called after each change."""
        translation, self._wake = self._translation, wake
        setters: dict[object, Set] = {
            VIRTUAL_SERVICES: translation.set_virtual_service,
            GATEWAYS: translation.set_gateway,
            DESTINATION_RULES: translation.set_rule,
            SERVICES: translation.set_service,
            ENDPOINTS: translation.set_endpoints,
        }
        for resource, informer in self._informers.items():
            informer.subscribe(self._follow(setters[resource]))
            self._group.create_task(informer.run())
        self._informers[VIRTUAL_SERVICES].subscribe(lambda change: _forget(change, live))

    def status_controller(self, live: LiveConfig) -> Controller:
        """What writes the gateway's word into VirtualServices."""
        informer = self._informers[VIRTUAL_SERVICES]
        return StatusReconciler(self._client, informer, live, self._clock).controller(self._rng)

    async def ready(self) -> None:
        """Returns once all kinds are listed. Pods are followed from the first subset on: only those look at labels."""
        if self._translation.catalog.rules.has_subsets() and PODS not in self._informers:
            self._informers[PODS] = pods = self._make(PODS)
            pods.subscribe(self._follow(self._set_pod))
            self._group.create_task(pods.run())
        for informer in list(self._informers.values()):
            await informer.synced()

    def _make(self, resource: ResourceType) -> Informer:
        return Informer(self._client, resource, clock=self._clock, rng=self._rng, keep=_keep_parts(resource))

    def _set_pod(self, key: ServiceKey, view: JsonView | None) -> None:
        self._translation.set_pod(key, (view["metadata"].get("labels") or {}) if view is not None else None)

    def _follow(self, set_object: Set) -> Callable[[Change], None]:
        def on_change(change: Change) -> None:
            meta = change.object["metadata"]
            gone = change.kind is ChangeKind.DELETED
            set_object((meta["namespace"], meta["name"]), None if gone else change.object)
            self._wake()

        return on_change


def _keep_parts(resource: ResourceType) -> Callable[[JsonView], JsonView]:
    """Keeps of an object what routing looks at: of a pod its labels, and of nothing its field managers."""
    parts = {PODS: (), VIRTUAL_SERVICES: _KEPT_OF_VIRTUAL_SERVICES}.get(resource, _KEPT_PARTS)

    def keep(obj: JsonView) -> JsonView:
        meta = {name: value for name, value in obj["metadata"].items() if name in _KEPT_METADATA}
        return {"metadata": meta, **{name: obj[name] for name in parts if name in obj}}

    return keep


def _forget(change: Change, live: LiveConfig) -> None:
    if change.kind is ChangeKind.DELETED:
        live.forget(version_of(change.object).uid)
