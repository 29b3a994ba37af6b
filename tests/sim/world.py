"""One seeded world: the real reconcilers and the real autoscaler over a simulated machine, with faults, and what must hold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from controller.base.json import JsonObject, JsonView
from controller.inferenceservice.run import run as run_services
from controller.kube.informer import Change, ChangeKind, Informer
from controller.kube.resources import (
    DEPLOYMENTS,
    ENDPOINTS,
    INFERENCE_SERVICES,
    NAMESPACES,
    PODS,
    REVISIONS,
    VIRTUAL_SERVICES,
    ResourceType,
)
from controller.reconcile.plan import Key
from onebox.apiserver.context import Server
from onebox.istio.live import LiveConfig
from onebox.istio.status import StatusReconciler
from onebox.knative.autoscaler.autoscaler import Autoscaler
from onebox.knative.autoscaler.report import ScaleBoard
from onebox.knative.run import Parts, autoscaler_informers, run_parts
from onebox.knative.world import World as KnativeWorld
from onebox.workloads.run import run as run_workloads
from tests.sim.api import Faults, SimClient
from tests.sim.machines import BROKEN_IMAGE, Activator, Gateway, Node, Traffic
from tests.sim.virtual_time import VirtualClock

CLOCK = VirtualClock()
STORMY_S, CALM_S, QUIET_S = 45.0, 60.0, 15.0
"""Faults and changes; then time to come to rest; then nothing may be written any more."""
MISTAKE_S = 10.0
"""How long a revision that crashes takes at most to be told of."""
_WORK_S = (0.01, 0.05, 0.3)
_NAME = "model"


class SimAutoscaler(Autoscaler):
    """The real one, with the loads of simulated pods in place of sockets."""

    activator: Activator

    async def run(self) -> None:
        for informer in self._informers.all():
            await informer.synced()
        self._watch()
        self.activator.autoscaler = self
        async with asyncio.TaskGroup() as group:
            group.create_task(self._controller.run())
            group.create_task(self._tick_forever())

    def feed(self, node: Node) -> None:
        """A second's loads of all pods."""
        for key, scaler in self._scalers.items():
            loads = [pod.load(1.0) for pod in node.of(key)]
            if loads:
                concurrency, rps = (sum(values) for values in zip(*loads, strict=True))
                scaler.record(CLOCK.monotonic_s(), concurrency=concurrency, rps=rps)


@dataclass
class World:
    """A namespace of its own with everything that acts on it."""

    server: Server
    seed: int
    broken: list[str] = field(default_factory=list)
    """Invariants that did not hold, and when."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.faults = Faults(random.Random(self.seed + 1))
        self.namespace = f"w{self.seed}"
        self.service = Key(self.namespace, _NAME)
        self.user = SimClient(self.server, "user", Faults(random.Random(0), delay_max_s=0.001))
        self.clients: list[SimClient] = []
        self.live = LiveConfig()
        self.most = self.rng.randint(1, 4)
        self.spec: JsonObject = {
            "minReplicas": self.rng.choice((0, 0, 1)),
            "maxReplicas": self.most,
            "scaleTarget": 2,
            "containerConcurrency": self.rng.choice((0, 0, 2)),
            "annotations": {"autoscaling.knative.dev/window": "6s"},
        }

    async def play(self) -> None:
        """The whole life of the world; what did not hold is in `broken`."""
        await self.user.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        )
        async with asyncio.TaskGroup() as tasks:
            self.background = [tasks.create_task(task) for task in await self._machines(tasks)]
            control = tasks.create_task(self._control_plane_forever())
            await self._storm(tasks)
            await asyncio.sleep(CALM_S)
            await self._check_rest()
            await self._check_mistake()
            self.restarting.set()  # A control plane that starts anew finds nothing to do.
            await asyncio.sleep(QUIET_S / 2)
            before = self._written()
            await asyncio.sleep(QUIET_S / 2)
            self._expect(self._written() == before, f"a quiet world is written to: {self._written() - before}")
            for task in (control, *self.background):
                task.cancel()
        self._forget()

    def _forget(self) -> None:
        """Leaves the API server as it was: whoever comes next should not have to look after this world."""
        for objects in self.server.store._objects.values():
            for address in [address for address in objects if self.namespace in address]:
                del objects[address]

    # Who acts.

    async def _machines(self, tasks: asyncio.TaskGroup) -> list[Any]:
        client = SimClient(self.server, "machine", Faults(random.Random(self.seed + 2)))
        informers = {
            kind: Informer(client, kind, clock=CLOCK, rng=self.rng)
            for kind in (PODS, VIRTUAL_SERVICES, ENDPOINTS, DEPLOYMENTS)
        }
        self.node = Node(client, informers[PODS], self.rng, tasks)
        self.gateway = Gateway(informers[VIRTUAL_SERVICES], informers[ENDPOINTS], self.live, self.rng)
        self.activator = Activator(self.node, informers[ENDPOINTS], self.rng)
        self.traffic = Traffic(self.gateway, self.node, self.activator, self.rng)
        informers[DEPLOYMENTS].subscribe(self._check_bounds)
        status = StatusReconciler(client, informers[VIRTUAL_SERVICES], self.live, CLOCK).controller(self.rng)
        return [*(informer.run() for informer in informers.values()), status.run(), self.activator.report_forever()]

    async def _control_plane_forever(self) -> None:
        """Runs the control plane; `restarting` kills it, wherever it is, and starts it anew."""
        self.restarting = asyncio.Event()
        while True:
            self.restarting.clear()
            running = asyncio.ensure_future(self._control_plane())
            killed = asyncio.ensure_future(self.restarting.wait())
            try:
                await asyncio.wait((running, killed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                running.cancel()
                killed.cancel()
                await asyncio.wait((running, killed))
            if running.done() and not running.cancelled() and (error := running.exception()) is not None:
                raise error

    async def _control_plane(self) -> None:
        services, workloads, knative = (self._client(name) for name in ("controller", "workloads", "engine"))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_services(services, CLOCK, self.rng))
            group.create_task(run_workloads(workloads, self.server.home, CLOCK, self.rng))
            group.create_task(self._knative(knative))

    async def _knative(self, client: SimClient) -> None:
        world, board = KnativeWorld(client, CLOCK, self.rng), ScaleBoard()
        informers = autoscaler_informers(world)
        home = self.server.home
        autoscaler = SimAutoscaler(client, informers, board=board, home=home, clock=CLOCK, rng=self.rng)
        autoscaler._gateway = self.gateway
        parts = Parts(client=client, home=home, clock=CLOCK, rng=self.rng, world=world, board=board, gateway=self.live)
        autoscaler.activator = self.activator
        async with asyncio.TaskGroup() as group:
            group.create_task(run_parts(parts, autoscaler))
            while True:
                await asyncio.sleep(1.0)
                autoscaler.feed(self.node)

    def _client(self, name: str) -> SimClient:
        made = SimClient(self.server, name, self.faults)
        self.clients.append(made)
        return made

    # What happens.

    async def _storm(self, tasks: asyncio.TaskGroup) -> None:
        self.faults.refused, self.faults.answer_lost = 0.03, 0.02
        self.faults.watch_broken, self.faults.repeated = 0.01, 0.05
        await self._apply(image="app:1")
        end_s = CLOCK.monotonic_s() + STORMY_S
        await asyncio.sleep(4.0)
        actions: tuple[Callable[[], Any], ...] = (
            self._update, self._canary, self._mistake, self._kill, self._kill, self._remove
        )  # fmt: skip
        while CLOCK.monotonic_s() < end_s:
            match self.rng.random():
                case chance if chance < 0.25:
                    await self.rng.choice(actions)()
                case chance if chance < 0.7:
                    self._burst(tasks)
            await asyncio.sleep(self.rng.uniform(0.5, 8.0))
        await self._apply(image="app:last")
        self.faults.refused = self.faults.answer_lost = self.faults.watch_broken = self.faults.repeated = 0.0

    def _burst(self, tasks: asyncio.TaskGroup) -> None:
        for _ in range(self.rng.randint(1, 30)):
            tasks.create_task(self._one_request(self.rng.uniform(0, 3), self.rng.choice(_WORK_S)))

    async def _one_request(self, after_s: float, work_s: float) -> None:
        await asyncio.sleep(after_s)
        await self.traffic.request(self.service, work_s)

    async def _update(self) -> None:
        await self._apply(image=f"app:{self.rng.randint(2, 9)}")

    async def _canary(self) -> None:
        await self._apply(image=f"app:{self.rng.randint(10, 19)}", canaryTrafficPercent=self.rng.choice((0, 20, 50)))

    async def _mistake(self) -> None:
        await self._apply(image=BROKEN_IMAGE)

    async def _kill(self) -> None:
        self.restarting.set()

    async def _remove(self) -> None:
        if self.traffic_is_over():
            await self.user.delete(INFERENCE_SERVICES, _NAME, self.namespace)
            await asyncio.sleep(self.rng.uniform(0, 3))
            await self._apply(image="app:again")

    def traffic_is_over(self) -> bool:
        """Whether nobody would notice that the service goes away."""
        return not any(pod.running for pod in self.node.pods.values()) and not sum(self.activator.held.values())

    async def _apply(self, *, image: str = "", **predictor: Any) -> None:
        if image:
            predictor["containers"] = [{"name": "kserve-container", "image": image, "command": ["serve"]}]
        manifest = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": _NAME, "namespace": self.namespace},
            "spec": {"predictor": {**self.spec, **predictor}},
        }
        await self.user.apply(INFERENCE_SERVICES, manifest, field_manager="user")

    # What must hold.

    def _check_bounds(self, change: Change) -> None:
        if change.kind is not ChangeKind.DELETED:
            replicas = change.object["spec"].get("replicas", 1)
            self._expect(0 <= replicas <= self.most, f"{change.object['metadata']['name']} has {replicas} replicas")

    async def _check_rest(self) -> None:
        self._expect(not self.traffic.lost, f"requests lost: {self.traffic.lost}")
        self._expect(self.traffic_is_over(), "requests still wait")
        service = await self.user.get(INFERENCE_SERVICES, _NAME, self.namespace)
        ready = _condition(service, "Ready")
        self._expect(ready.get("status") == "True", f"not Ready at last: {service.get('status')}")
        await self._check_owners()
        least = self.spec["minReplicas"]
        for deployment in await self._items(DEPLOYMENTS):
            revision = await self.user.get(
                REVISIONS, deployment["metadata"]["ownerReferences"][0]["name"], self.namespace
            )
            if _condition(revision, "Ready").get("status") != "True":
                continue  # One that never came up is waited for until its progress deadline.
            routed = revision["metadata"]["labels"].get("serving.knative.dev/routingState") == "active"
            wanted = least if routed else 0
            found = deployment["spec"].get("replicas", 1)
            self._expect(found == wanted, f"{deployment['metadata']['name']} rests at {found}, not {wanted}")

    async def _check_mistake(self) -> None:
        """A revision that cannot come up is told of, and takes nothing away."""
        await self._apply(image=BROKEN_IMAGE)
        await asyncio.sleep(MISTAKE_S)
        service = await self.user.get(INFERENCE_SERVICES, _NAME, self.namespace)
        ready = _condition(service, "Ready")
        told = ready.get("status") == "False" and ready.get("reason") and "seeded crash" in ready.get("message", "")
        self._expect(bool(told), f"a broken revision is not told of: {ready}")
        answered = self.traffic.answered
        await self.traffic.request(self.service, 0.01)
        self._expect(self.traffic.answered == answered + 1, "a broken revision took the service down")
        await self._apply(image="app:mended")
        await asyncio.sleep(CALM_S)

    async def _check_owners(self) -> None:
        uids = set()
        owned = []
        for records in self.server.store._objects.values():
            for record in records.values():
                item = _parsed(record)
                uids.add(item["metadata"]["uid"])
                if record.key.namespace == self.namespace:
                    owned.append(item)
        for item in owned:
            for owner in item["metadata"].get("ownerReferences") or ():
                name = f"{item.get('kind')} {item['metadata']['name']}"
                self._expect(owner["uid"] in uids, f"{name} outlives its owner {owner['kind']} {owner['name']}")

    async def _items(self, resource: ResourceType) -> list[JsonObject]:
        return (await self.user.list(resource, self.namespace)).items

    def _written(self) -> Any:
        return sum((client.writes for client in self.clients), start=type(self.user.writes)())

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(f"{CLOCK.monotonic_s():.2f} s: {otherwise}")


def _condition(item: JsonView, type_: str) -> JsonView:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found["type"] == type_), {})


def _parsed(record: Any) -> JsonObject:
    item: JsonObject = orjson.loads(record.data)
    return item
