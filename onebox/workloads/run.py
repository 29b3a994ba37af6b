"""What kube-controller-manager does on a cluster: Deployments, Endpoints, garbage collection, namespaces.

The parts share their caches and nothing else. Each is a loop of its own over keys; all of them live in one task group, so a
bug in one ends the process loudly and the supervisor starts it anew.
"""

from __future__ import annotations

import asyncio
import random

from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.kube.client import KubeClient
from controller.kube.informer import Informer
from controller.kube.resources import (
    CRDS,
    DEPLOYMENTS,
    ENDPOINTS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    ResourceType,
)
from onebox.home import Home
from onebox.workloads.deployments import DeploymentController
from onebox.workloads.endpoints import EndpointsController
from onebox.workloads.garbage import GarbageCollector, keep_metadata
from onebox.workloads.namespaces import NamespaceController


async def run(client: KubeClient, home: Home, clock: Clock, rng: random.Random) -> None:
    """Runs the workload controllers until cancelled. `home` is part of the shape of every subsystem; nothing is kept there."""
    del home
    informers = _informers(client, clock, rng)
    garbage = GarbageCollector(client, shared=informers, clock=clock, rng=rng)
    deployments = DeploymentController(
        client,
        deployments=informers[DEPLOYMENTS],
        pods=informers[PODS],
        namespaces=informers[NAMESPACES],
        clock=clock,
        rng=rng,
    )
    endpoints = EndpointsController(
        client, services=informers[SERVICES], pods=informers[PODS], endpoints=informers[ENDPOINTS], clock=clock, rng=rng
    )
    namespaces = NamespaceController(
        client,
        namespaces=informers[NAMESPACES],
        accounts=informers[SERVICE_ACCOUNTS],
        kinds=garbage.kinds,
        clock=clock,
        rng=rng,
    )
    async with asyncio.TaskGroup() as tasks:
        for informer in informers.values():
            tasks.create_task(informer.run())
        for informer in informers.values():
            await informer.synced()
        tasks.create_task(garbage.run())
        for loop in (deployments.loop, endpoints.loop, namespaces.loop):
            tasks.create_task(loop.run())


def _informers(client: KubeClient, clock: Clock, rng: random.Random) -> dict[ResourceType, Informer]:
    whole = (PODS, DEPLOYMENTS, SERVICES, ENDPOINTS, NAMESPACES)
    found = {
        resource: Informer(client, resource, clock=clock, rng=rng, keep=without_managed_fields) for resource in whole
    }
    for resource in (SERVICE_ACCOUNTS, CRDS):
        found[resource] = Informer(client, resource, clock=clock, rng=rng, keep=keep_metadata)
    return found


def without_managed_fields(item: JsonView) -> JsonView:
    """The object without the record of who wrote what: half of its size, and nobody here applies."""
    meta = {name: value for name, value in item["metadata"].items() if name != "managedFields"}
    return {**item, "metadata": meta}
