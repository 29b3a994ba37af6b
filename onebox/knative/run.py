"""Runs Knative's reconcilers and the autoscaler: Service, Configuration, Revision, Route, the marks, and the scaling.

They share one set of live copies, and talk through the API's objects alone, with two exceptions in process: the
autoscaler's board, and the gateway's word that a route is in force.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.kube.client import KubeClient
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome
from onebox.home import Home
from onebox.istio.live import live_config
from onebox.knative.autoscaler.autoscaler import Autoscaler, AutoscalerInformers
from onebox.knative.autoscaler.report import ScaleBoard
from onebox.knative.carrying import SETTLE_S, Carrier
from onebox.knative.configuration.controller import CollectionReconciler, ConfigurationReconciler
from onebox.knative.pod_autoscaler.controller import PodAutoscalerReconciler
from onebox.knative.revision.controller import RevisionReconciler
from onebox.knative.revision_labels import revision_labels
from onebox.knative.route.controller import Gateway, RouteReconciler, RoutingReconciler
from onebox.knative.service.controller import ServiceReconciler
from onebox.knative.world import World, name_of, namespace_of
from onebox.metrics.run import run as run_metrics

_WORKERS = 8
"""Objects of one kind in work at once; enough to keep the API server busy. A guess."""

_SERVICE_SETTLE_S = 1.25 * SETTLE_S
"""A Service repeats what its children say, so that it waits for their word."""
_REVISION_SETTLE_S = 3 * SETTLE_S
"""That a revision is deploying can be seen on the Service as well. A guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the reconcilers are made of."""

    client: KubeClient
    home: Home
    clock: Clock
    rng: random.Random
    world: World
    board: ScaleBoard
    gateway: Gateway


class _Reconciler(Protocol):
    def watch(self, controller: Controller) -> None: ...

    async def reconcile(self, key: Key) -> Outcome: ...


async def run(client: KubeClient, home: Home, clock: Clock, rng: random.Random) -> None:
    """Runs until cancelled, the page of metrics with it, since that names revisions. `rng` spreads retries."""
    world, board = World(client, clock, rng), ScaleBoard()
    informers = autoscaler_informers(world)
    autoscaler = Autoscaler(client, informers, board=board, home=home, clock=clock, rng=rng)
    parts = Parts(client=client, home=home, clock=clock, rng=rng, world=world, board=board, gateway=live_config(home))
    async with asyncio.TaskGroup() as group:
        group.create_task(run_parts(parts, autoscaler))
        group.create_task(run_metrics(home, [autoscaler.collect], partial(_labels_of, world)))


def autoscaler_informers(world: World) -> AutoscalerInformers:
    """Those live copies of a world that the autoscaler looks at."""
    return AutoscalerInformers(
        revisions=world.revisions,
        deployments=world.deployments,
        endpoints=world.endpoints,
        config_maps=world.config_maps,
    )


async def run_parts(parts: Parts, autoscaler: Autoscaler) -> None:
    """Runs the reconcilers and the autoscaler, and keeps the copies fresh that they share, until cancelled."""
    controllers, informers = make_controllers(parts), parts.world.informers.values()
    async with asyncio.TaskGroup() as group:
        for informer in informers:
            group.create_task(informer.run())
        for informer in informers:
            await informer.synced()  # Whatever looks at two kinds must not take one that is not listed yet for empty.
        group.create_task(autoscaler.run())
        for controller in controllers:
            group.create_task(controller.run())


def _labels_of(world: World, namespace: str, name: str) -> str | None:
    revision = world.revisions.get(namespace, name)
    return None if revision is None else revision_labels(revision)


def make_controllers(parts: Parts) -> list[Controller]:
    """The reconcilers' controllers, watching; nothing runs yet."""
    client, world, clock, settings = parts.client, parts.world, parts.clock, parts.home.settings()

    def carrier(settle_s: float = SETTLE_S) -> Carrier:
        return Carrier(client, world.informers, clock, settle_s=settle_s)

    def controller(name: str, reconciler: _Reconciler) -> Controller:
        made = Controller(name, reconciler.reconcile, workers=_WORKERS, clock=clock, rng=parts.rng)
        reconciler.watch(made)
        return made

    routes = RouteReconciler(world, carrier(), clock, gateway=parts.gateway, gateway_port=settings.gateway_port)
    revisions = RevisionReconciler(
        world, carrier(_REVISION_SETTLE_S), clock, board=parts.board, activator_port=settings.activator_port
    )
    autoscalers = PodAutoscalerReconciler(world, carrier(), carrier(), clock, board=parts.board)
    of_revisions, of_routes = controller("revision", revisions), controller("route", routes)
    of_revisions.watch(world.config_maps, lambda _: _keys(world.revisions.items()))
    of_routes.watch(world.config_maps, lambda _: _keys(world.routes.items()))
    return [
        controller("service", ServiceReconciler(world, carrier(_SERVICE_SETTLE_S), clock)),
        controller("configuration", ConfigurationReconciler(world, carrier(), clock)),
        of_revisions,
        controller("podautoscaler", autoscalers),
        of_routes,
        controller("collection", CollectionReconciler(client, world, clock)),
        controller("routing", RoutingReconciler(client, world, routes, clock)),
    ]


def _keys(objects: Iterable[JsonView]) -> list[Key]:
    return [Key(namespace_of(obj), name_of(obj)) for obj in objects]
