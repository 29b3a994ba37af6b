"""A cluster for the workload controllers: the real controllers on a real API, and a node that only pretends to run pods."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from controller.base.clock import SystemClock, rfc3339
from controller.base.json import JsonView
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.informer import Informer
from controller.kube.resources import NAMESPACES, PODS, ResourceType
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome
from onebox.home import Home
from onebox.workloads.run import run
from tests.onebox.workloads.objects import Object
from tests.waiting import eventually

CLOCK = SystemClock()


class PretendNode:
    """Makes pods ready at once and lets deleted ones go, as a node with very fast processes would."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        rng = random.Random(1)
        self.pods = Informer(client, PODS, clock=CLOCK, rng=rng)
        self.stuck: set[str] = set()
        """Images whose pods never become ready."""
        self._next_port = 31000
        self.loop = Controller("node", self._reconcile, workers=2, clock=CLOCK, rng=rng)
        self.loop.watch(self.pods, lambda pod: [Key(pod["metadata"]["namespace"], pod["metadata"]["name"])])

    async def _reconcile(self, key: Key) -> Outcome:
        pod = self.pods.get(*key)
        if pod is None:
            return Outcome()
        meta = pod["metadata"]
        if meta.get("deletionTimestamp"):
            await self._client.delete(PODS, key.name, key.namespace, uid=meta["uid"], grace_period_s=0)
        elif not (pod.get("status") or {}).get("podIP"):
            ready = pod["spec"]["containers"][0]["image"] not in self.stuck
            patch = {"metadata": {"annotations": self._ports(pod)}, "status": _status(ready)}
            self.pods.remember(await self._client.patch(PODS, key.name, key.namespace, patch, subresource="status"))
        return Outcome()

    def _ports(self, pod: JsonView) -> dict[str, str]:
        mapped = {}
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or ():
                self._next_port += 1
                mapped[str(port["containerPort"])] = self._next_port
        return {"onebox.ladle.dev/ports": orjson.dumps(mapped).decode()}


def _status(ready: bool) -> Object:
    now = rfc3339(CLOCK.wall_s())
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now}
    return {"phase": "Running", "podIP": "127.0.0.1", "conditions": [condition]}


class Cluster:
    def __init__(self, client: KubeClient, node: PretendNode) -> None:
        self.client = client
        self.node = node

    async def create(self, resource: ResourceType, manifest: Object) -> Object:
        return await self.client.create(resource, manifest)

    async def items(self, resource: ResourceType, namespace: str = "ns") -> list[Object]:
        return (await self.client.list(resource, namespace)).items

    async def names(self, resource: ResourceType, namespace: str = "ns") -> list[str]:
        return sorted(item["metadata"]["name"] for item in await self.items(resource, namespace))

    async def find(self, resource: ResourceType, name: str, namespace: str = "ns") -> Object | None:
        try:
            return await self.client.get(resource, name, namespace)
        except NotFound:
            return None

    async def until(self, what: str, probe: Callable[[], Awaitable[Any]]) -> Any:
        return await eventually(what, probe)

    async def until_gone(self, resource: ResourceType, name: str, namespace: str = "ns") -> None:
        async def gone() -> bool:
            return await self.find(resource, name, namespace) is None

        await self.until(f"{resource.kind} {name} is gone", gone)

    async def until_status(self, resource: ResourceType, name: str, **wanted: Any) -> Object:
        """Waits until the object's status has these values; None means that it lacks the field."""

        async def matches() -> Object | None:
            found = await self.find(resource, name)
            status = (found or {}).get("status") or {}
            return found if all(status.get(field) == value for field, value in wanted.items()) else None

        found: Object = await self.until(f"{resource.kind} {name} has {wanted}", matches)
        return found


@asynccontextmanager
async def running_cluster(client: KubeClient, home: Home, *, controllers: bool = True) -> AsyncIterator[Cluster]:
    """The controllers and the node at work, with a namespace `ns`."""
    node = PretendNode(client)
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(node.pods.run()), tasks.create_task(node.loop.run())]
        if controllers:
            started.append(tasks.create_task(run(client, home, CLOCK, random.Random(1))))
        yield Cluster(client, node)
        for task in started:
            task.cancel()
