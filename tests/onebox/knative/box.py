"""Knative's reconcilers, the autoscaler and the workload controllers on a real API server; pods become what the test says."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from controller.base.clock import SystemClock
from controller.base.json import JsonObject, JsonView
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.resources import CONFIG_MAPS, KNATIVE_SERVICES, NAMESPACES, PODS, ROUTES, ResourceType
from onebox.home import Home
from onebox.knative.autoscaler.autoscaler import Autoscaler
from onebox.knative.autoscaler.report import ScaleBoard
from onebox.knative.pod_autoscaler.plan import SETTLE_S
from onebox.knative.run import Parts, autoscaler_informers, run_parts
from onebox.knative.world import World
from onebox.workloads.run import run as run_workloads
from tests.onebox_api import ApiProcess, open_api
from tests.waiting import eventually

CLOCK = SystemClock()
CONFIG = {
    "config-autoscaler": {"target-burst-capacity": "0"},
    "config-domain": {"localhost": ""},
    "config-features": {"kubernetes.podspec-init-containers": "enabled"},
}


class CountingClient(KubeClient):
    """Counts what it asks the API server to write."""

    writes: Counter[str]

    async def _request(self, method: str, path: str, **fields: Any) -> JsonObject:
        if method != "GET":
            self.writes[f"{method} {path.partition('/namespaces/')[2].partition('/')[2] or path}"] += 1
        return await super()._request(method, path, **fields)


class GatewayOfTheTest:
    """Serves whatever is stored, but what the test holds back."""

    def __init__(self) -> None:
        self.refusal = ""
        self.behind = False
        self._subscribers: list[Callable[[str, str], None]] = []

    def is_live(self, virtual_service: JsonView) -> bool:
        return bool(virtual_service) and not self.behind

    def refusal_of(self, uid: str, generation: int) -> str:
        return self.refusal

    def subscribe(self, on_live: Callable[[str, str], None]) -> None:
        self._subscribers.append(on_live)

    def tell(self, namespace: str, name: str) -> None:
        for on_live in self._subscribers:
            on_live(namespace, name)


class KnativeBox:
    """A box for one test."""

    def __init__(self, api: ApiProcess, client: CountingClient) -> None:
        self.api = api
        self.client = api.client
        self.knative = client
        self.gateway = GatewayOfTheTest()
        self._next_port = 20_000

    @property
    def writes(self) -> Counter[str]:
        """What Knative's reconcilers wrote."""
        return self.knative.writes

    async def apply(
        self, name: str, *, image: str = "app:1", template: Mapping[str, Any] | None = None, **spec: Any
    ) -> None:
        """Applies a Service as a user would."""
        container = {"image": image, "name": "user-container"}
        manifest = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"template": {"metadata": template or {}, "spec": {"containers": [container]}}, **spec},
        }
        await self.client.apply(KNATIVE_SERVICES, manifest, field_manager="user")

    async def get(self, resource: ResourceType, name: str) -> JsonObject:
        return await self.client.get(resource, name, "default")

    async def names(self, resource: ResourceType) -> set[str]:
        return {item["metadata"]["name"] for item in (await self.client.list(resource, "default")).items}

    async def pods_of(self, revision: str) -> list[JsonObject]:
        selector = f"serving.knative.dev/revision={revision}"
        return (await self.client.list(PODS, "default", label_selector=selector)).items

    async def pod_of(self, revision: str) -> JsonObject:
        """The revision's only pod, once it is there."""

        async def probe() -> JsonObject | None:
            return next(iter(await self.pods_of(revision)), None)

        found = await eventually(f"a pod of {revision}", probe)
        assert found is not None
        return found

    async def make_ready(self, revision: str) -> int:
        """Says of the revision's pod what a node would say; returns where it takes requests."""
        pod = await self.pod_of(revision)
        numbers = [port["containerPort"] for found in pod["spec"]["containers"] for port in found.get("ports") or ()]
        mapped = {str(number): self._next_port + index for index, number in enumerate(numbers)}
        self._next_port += len(numbers)
        statuses = [
            {"name": found["name"], "ready": True, "state": {"running": {}}} for found in pod["spec"]["containers"]
        ]
        await self._say(
            pod,
            {
                "phase": "Running",
                "podIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{**found, "restartCount": 0, "image": "i", "imageID": "i"} for found in statuses],
            },
            {"onebox.ladle.dev/ports": orjson.dumps(mapped).decode()},
        )
        return mapped["8012"]

    async def make_crash(self, revision: str, code: int, message: str) -> None:
        """The revision's container has ended, and will again."""
        ended = {"terminated": {"exitCode": code, "message": message}}
        status = {"name": "user-container", "ready": False, "restartCount": 1, "image": "i", "imageID": "i"}
        state = {"waiting": {"reason": "CrashLoopBackOff"}}
        await self._say(
            await self.pod_of(revision),
            {"phase": "Running", "containerStatuses": [{**status, "state": state, "lastState": ended}]},
        )

    async def _say(self, pod: JsonObject, status: JsonObject, annotations: Mapping[str, str] | None = None) -> None:
        patch = {"metadata": {"annotations": dict(annotations or {})}, "status": status}
        await self.client.patch(PODS, pod["metadata"]["name"], "default", patch, subresource="status")

    async def until(self, resource: ResourceType, name: str, **conditions: str) -> JsonObject:
        """The object once its conditions have these statuses (`True`, or `False:Reason`) at its present generation."""
        last: JsonObject = {}

        async def probe() -> JsonObject | None:
            nonlocal last
            try:
                last = await self.get(resource, name)
            except NotFound:
                return None
            status = last.get("status") or {}
            told = {found["type"]: found for found in status.get("conditions") or ()}
            fits = status.get("observedGeneration") == last["metadata"]["generation"]
            for type_, wanted in conditions.items():
                found = told.get(type_, {})
                fits = fits and wanted in (found.get("status"), f"{found.get('status')}:{found.get('reason')}")
            return last if fits else None

        try:
            found = await eventually(f"{resource.kind} {name} with {conditions}", probe, timeout_s=20)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{orjson.dumps(last.get('status'), option=orjson.OPT_INDENT_2).decode()}"
            ) from None
        assert found is not None
        return found

    async def quiet(self, for_s: float = SETTLE_S + 0.5) -> None:
        """Returns once nothing was written for this long: longer than anything that is said waits to be said."""
        seen = (-1, 0.0)

        async def probe() -> bool:
            nonlocal seen
            count = self.writes.total()
            if count != seen[0]:
                seen = (count, CLOCK.monotonic_s())
            return CLOCK.monotonic_s() - seen[1] > for_s

        await eventually("quiet", probe)

    async def serve(self, name: str, revision: str, **fields: Any) -> JsonObject:
        """A Service that is Ready."""
        await self.apply(name, **fields)
        await self.make_ready(revision)
        return await self.until(KNATIVE_SERVICES, name, Ready="True")

    async def route(self, name: str) -> JsonObject:
        return await self.get(ROUTES, name)


@asynccontextmanager
async def open_box(root: Path) -> AsyncIterator[KnativeBox]:
    """Everything runs until the test is over."""
    async with (
        open_api(root) as api,
        CountingClient.open(api.home.component_kubeconfig("engine"), user_agent="test") as client,
    ):
        assert isinstance(client, CountingClient)
        client.writes = Counter()
        await api.client.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "knative-serving"}}
        )
        for name, data in CONFIG.items():
            metadata = {"name": name, "namespace": "knative-serving"}
            await api.client.create(
                CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            )
        box = KnativeBox(api, client)
        async with running(box):
            yield box


@asynccontextmanager
async def running(box: KnativeBox) -> AsyncIterator[None]:
    """The reconcilers and what they work with, for as long as the context lasts."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(run_workloads(box.api.client, box.api.home, CLOCK, random.Random(2))),
            group.create_task(_run_knative(box, box.api.home)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _run_knative(box: KnativeBox, home: Home) -> None:
    rng = random.Random(1)
    world, board = World(box.knative, CLOCK, rng), ScaleBoard()
    informers = autoscaler_informers(world)
    autoscaler = Autoscaler(box.api.client, informers, board=board, home=home, clock=CLOCK, rng=rng)
    parts = Parts(client=box.knative, home=home, clock=CLOCK, rng=rng, world=world, board=board, gateway=box.gateway)
    await run_parts(parts, autoscaler)
