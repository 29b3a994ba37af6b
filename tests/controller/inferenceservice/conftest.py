"""The real controller on the real API server; what Knative would do is done by the test."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.base.clock import SystemClock
from controller.base.json import JsonObject
from controller.inferenceservice.run import run
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.resources import (
    CLUSTER_SERVING_RUNTIMES,
    CONFIG_MAPS,
    EVENTS,
    INFERENCE_SERVICES,
    KNATIVE_SERVICES,
    NAMESPACES,
    ResourceType,
)
from tests.controller.inferenceservice.builders import knative_service, runtime
from tests.onebox_api import ApiProcess, api, api_of_module, open_api, shared_api
from tests.waiting import eventually

__all__ = ["api", "api_of_module", "box", "shared_api"]

NAMESPACE = "ns"
FEATURES = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "config-features", "namespace": "knative-serving"},
    "data": {"kubernetes.podspec-init-containers": "enabled"},
}


class CountingClient(KubeClient):
    """Counts what it asks the API server to write."""

    writes: Counter[str]

    async def _request(self, method: str, path: str, **fields: Any) -> JsonObject:
        if method != "GET":
            kind = path.partition(f"/namespaces/{NAMESPACE}/")[2].partition("/")[0]
            self.writes[f"{method} {kind}{'/status' if path.endswith('/status') else ''}"] += 1
        return await super()._request(method, path, **fields)


class ServiceBox:
    """An API server with a controller of InferenceServices."""

    def __init__(self, api: ApiProcess) -> None:
        self.api = api
        self.client = api.client
        self.writes: Counter[str] = Counter()

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[Counter[str]]:
        """Runs a controller while the block does; its writes by method and resource."""
        writes: Counter[str] = Counter()
        async with CountingClient.open(self.api.kubeconfig, user_agent="controller") as client:
            assert isinstance(client, CountingClient)
            client.writes = writes
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(run(client, SystemClock(), random.Random(1)))
                yield writes
                task.cancel()

    async def apply(self, resource: ResourceType, manifest: Mapping[str, Any]) -> JsonObject:
        meta = {k: v for k, v in manifest["metadata"].items() if k not in ("uid", "generation", "creationTimestamp")}
        if not resource.namespaced:
            meta.pop("namespace", None)
        return await self.client.apply(resource, {**manifest, "metadata": meta}, field_manager="user")

    async def find(self, resource: ResourceType, name: str) -> JsonObject | None:
        try:
            return await self.client.get(resource, name, NAMESPACE)
        except NotFound:
            return None

    async def appears(self, resource: ResourceType, name: str) -> JsonObject:
        found = await eventually(f"{resource.kind} {name}", lambda: self.find(resource, name))
        assert found is not None
        return found

    async def disappears(self, resource: ResourceType, name: str) -> None:
        async def gone() -> bool:
            return await self.find(resource, name) is None

        await eventually(f"no {resource.kind} {name}", gone)

    async def has_condition(self, type_: str, status: str, reason: str = "", *, name: str = "iris") -> JsonObject:
        """The service's status once it has this condition."""

        async def probe() -> JsonObject | None:
            service = await self.find(INFERENCE_SERVICES, name)
            found: JsonObject = (service or {}).get("status") or {}
            for item in found.get("conditions") or ():
                if (item["type"], item["status"]) == (type_, status) and (not reason or item.get("reason") == reason):
                    return found
            return None

        status_found = await eventually(f"{type_}={status} {reason}", probe)
        assert status_found is not None
        return status_found

    async def knative_says(self, name: str = "iris-predictor", **status: Any) -> None:
        """Writes the status of a Knative Service, as Knative would."""
        live = await self.appears(KNATIVE_SERVICES, name)
        said = knative_service(name, generation=live["metadata"]["generation"], **status).to_json()["status"]
        await self.client.patch(KNATIVE_SERVICES, name, NAMESPACE, {"status": said}, subresource="status")

    async def events(self) -> set[tuple[str, str]]:
        """Types and reasons of all events."""
        return {(item["type"], item["reason"]) for item in (await self.client.list(EVENTS, NAMESPACE)).items}

    async def says(self, type_: str, reason: str) -> None:
        """Waits for an event."""

        async def probe() -> bool:
            return (type_, reason) in await self.events()

        await eventually(f"event {reason}", probe)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[ServiceBox]:
    """A cluster with one runtime and with init containers allowed."""
    async with open_api(tmp_path / "home") as api:
        box = ServiceBox(api)
        for namespace in (NAMESPACE, "kserve", "knative-serving"):
            await box.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        await box.apply(CONFIG_MAPS, FEATURES)
        await box.apply(CLUSTER_SERVING_RUNTIMES, runtime().to_json())
        yield box
