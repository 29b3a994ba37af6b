"""Revisions, Deployments and Endpoints in the scripted API server, as the engine's other parts would write them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.base.clock import SystemClock
from controller.kube.client import KubeClient
from controller.kube.informer import Informer
from controller.kube.resources import CONFIG_MAPS, DEPLOYMENTS, ENDPOINTS, REVISIONS, ResourceType
from onebox.home import Home, OneboxSettings
from tests.controller.kube.scripted_api import ScriptedApi, connected

NAMESPACE = "default"


@dataclass
class PodPorts:
    """What a pod's annotation would say."""

    name: str
    data: int
    stats: int


@dataclass
class World:
    """One home and one API server."""

    api: ScriptedApi
    client: KubeClient
    home: Home

    def put(self, resource: ResourceType, name: str, obj: dict[str, Any], namespace: str = NAMESPACE) -> dict[str, Any]:
        return self.api.put(resource.path(namespace, name), obj)

    def get(self, resource: ResourceType, name: str) -> dict[str, Any]:
        return self.api.objects[resource.path(NAMESPACE, name)]

    def put_revision(
        self,
        name: str,
        *,
        annotations: dict[str, str] | None = None,
        spec: dict[str, Any] | None = None,
        labels: dict[str, str] | None = None,
        conditions: dict[str, str] | None = None,
    ) -> None:
        states = [{"type": type_, "status": status} for type_, status in (conditions or {}).items()]
        self.put(
            REVISIONS,
            name,
            {
                "metadata": {"annotations": annotations or {}, "labels": labels or {}},
                "spec": {"containerConcurrency": 0, "timeoutSeconds": 300} | (spec or {}),
                "status": {"conditions": states},
            },
        )

    def put_deployment(self, revision: str, replicas: int) -> None:
        self.put(DEPLOYMENTS, f"{revision}-deployment", {"spec": {"replicas": replicas}})

    def replicas(self, revision: str) -> int:
        return int(self.get(DEPLOYMENTS, f"{revision}-deployment")["spec"]["replicas"])

    def put_pods(self, revision: str, ready: Sequence[PodPorts] = (), not_ready: Sequence[PodPorts] = ()) -> None:
        """Endpoints of the private Service: a subset for each pod."""
        subsets = [
            {
                key: [{"ip": "127.0.0.1", "targetRef": {"kind": "Pod", "name": pod.name}}],
                "ports": [{"name": "http", "port": pod.data}, {"name": "http-autometric", "port": pod.stats}],
            }
            for key, pods in (("addresses", ready), ("notReadyAddresses", not_ready))
            for pod in pods
        ]
        self.put(ENDPOINTS, f"{revision}-private", {"subsets": subsets})

    def put_public(self, revision: str, port: int) -> None:
        """Endpoints of the public Service: everything goes to this port."""
        subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "http", "port": port}]}]
        self.put(ENDPOINTS, revision, {"subsets": subsets})

    def put_config(self, name: str, data: dict[str, str]) -> None:
        self.put(CONFIG_MAPS, name, {"data": data}, "knative-serving")

    def informer(self, resource: ResourceType, group: asyncio.TaskGroup) -> Informer:
        informer = Informer(self.client, resource, clock=SystemClock(), rng=random.Random(1))
        group.create_task(informer.run())
        return informer


@asynccontextmanager
async def world(folder: Path, settings: OneboxSettings | None = None) -> AsyncIterator[World]:
    async with connected(folder) as connection:
        home = Home(folder / "home")
        home.write_settings(settings or OneboxSettings())
        yield World(connection.api, connection.client, home)


@asynccontextmanager
async def background() -> AsyncIterator[asyncio.TaskGroup]:
    """A group for tasks that run until the block ends, and are cancelled then."""
    async with asyncio.TaskGroup() as group:
        before = asyncio.all_tasks()
        try:
            yield group
        finally:
            for task in group._tasks - before:
                task.cancel()
