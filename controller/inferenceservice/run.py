"""Runs the InferenceService controller until it is cancelled."""

from __future__ import annotations

import asyncio
import random

from controller.base.clock import Clock
from controller.inferenceservice.controller import FIELD_MANAGER, InferenceServiceReconciler
from controller.inferenceservice.identity_reader import IdentityReader
from controller.inferenceservice.world import Namespaces, World
from controller.kube.client import KubeClient
from controller.kube.events import EventRecorder
from controller.reconcile.apply import Applier
from controller.reconcile.controller import Controller

WORKERS = 8
"""Services in work at once. Reconciles mostly wait for the API server; a guess that keeps it busy without flooding it."""


async def run(client: KubeClient, clock: Clock, rng: random.Random, *, namespaces: Namespaces | None = None) -> None:
    """Watches and reconciles; returns only by cancellation. `rng` spreads retries."""
    world = World(client, namespaces=namespaces or Namespaces(), clock=clock, rng=rng)
    applier = Applier(
        client,
        field_manager=FIELD_MANAGER,
        informers=world.by_resource,
        events=EventRecorder(client, "ladle-controller", clock),
    )
    reconciler = InferenceServiceReconciler(world, IdentityReader(client, clock), applier, clock)
    controller = Controller("inferenceservice", reconciler.reconcile, workers=WORKERS, clock=clock, rng=rng)
    async with asyncio.TaskGroup() as tasks:
        for informer in world.informers:
            tasks.create_task(informer.run())
        for informer in world.informers:
            await (
                informer.synced()
            )  # A kind that is not listed yet must not be taken for empty: children would be made twice.
        reconciler.watch(controller)
        tasks.create_task(controller.run())
