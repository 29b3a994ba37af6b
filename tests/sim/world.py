"""One seeded world: the real reconcilers and the real autoscaler over a simulated machine, with faults, and what must hold."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from controller.base.json import JsonObject
from controller.inferenceservice.run import run as run_services
from controller.kube.informer import Informer
from controller.kube.resources import ENDPOINTS, INFERENCE_SERVICES, NAMESPACES, PODS, VIRTUAL_SERVICES
from controller.reconcile.plan import Key
from onebox.apiserver.context import Server
from onebox.apiserver.storage.history import History
from onebox.apiserver.storage.records import ChangeType
from onebox.istio.live import LiveConfig
from onebox.istio.status import StatusReconciler
from onebox.knative.autoscaler.autoscaler import Autoscaler
from onebox.knative.autoscaler.report import ScaleBoard
from onebox.knative.run import Parts, autoscaler_informers, run_parts
from onebox.knative.world import World as KnativeWorld
from onebox.workloads.run import run as run_workloads
from tests.sim.api import Faults, SimClient
from tests.sim.invariants import Invariants
from tests.sim.machines import BROKEN_IMAGE, Activator, Gateway, Node, Traffic
from tests.sim.virtual_time import VirtualClock

CLOCK = VirtualClock()
MISTAKE_S = 10.0
"""How long a revision that crashes, or a spec that nothing can serve, takes at most to be told of."""
MISTAKES_EVERY = 4
"""The seeds 1, 5, 9 and so on. A guess: fifty of two hundred, at a third of a world's time."""
_EPOCH_S = 1000.0
"""Worlds begin at multiples of this, so that what goes by the clock is the same whichever world came before."""
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


class World:
    """A namespace of its own with everything that acts on it. `play` it once."""

    stormy_s, calm_s, quiet_s = 45.0, 60.0, 15.0
    """Faults and changes; then time to come to rest; then nothing may be written any more."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.seed = seed
        self.rng = random.Random(seed)
        """What happens in this world. Others decide about faults, machines and retries: a control plane that draws once
        more must not become another story."""
        self.machine_rng, self.control_rng = random.Random(seed + 2), random.Random(seed + 3)
        self.faults = Faults(random.Random(seed + 1))
        self.namespace = f"w{seed}"
        self.service = Key(self.namespace, _NAME)
        self.user = SimClient(server, "user", Faults(random.Random(0), delay_max_s=0.001))
        self.clients: list[SimClient] = []
        self.live = LiveConfig()
        self.spec: JsonObject = {
            "minReplicas": self.rng.choice((0, 0, 1)),
            "maxReplicas": self.rng.randint(1, 4),
            "scaleTarget": 2,
            "containerConcurrency": self.rng.choice((0, 0, 2)),
            "annotations": {"autoscaling.knative.dev/window": "6s"},
        }

    async def play(self) -> None:
        """The whole life of the world; what did not hold is in `invariants.broken`."""
        await asyncio.sleep(_EPOCH_S - CLOCK.monotonic_s() % _EPOCH_S)
        self.server.rng.seed(self.seed)
        least, most = self.spec["minReplicas"], self.spec["maxReplicas"]
        self.invariants = Invariants(self.server.store, self.namespace, CLOCK, least=least, most=most)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await self.user.create(NAMESPACES, namespace)
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(task) for task in await self._machines(tasks)]
            control = tasks.create_task(self._control_plane_forever())
            await self.storm(tasks)
            await self.rest()
            await self.mistakes()
            await self.quiet()
            for task in (control, *background):
                task.cancel()
        await self._forget()

    async def _forget(self) -> None:
        """Leaves the API server as it was: whoever comes next should not have to look after this world."""
        self.invariants.close()
        store = self.server.store
        for objects in list(store._objects.values()):
            for record in [record for address, record in objects.items() if self.namespace in address]:
                await store.submit(ChangeType.DELETED, replace(record, revision=store.next_revision()))
        store.history = History()
        store.history.compacted = store.revision

    # Who acts.

    async def _machines(self, tasks: asyncio.TaskGroup) -> list[Any]:
        client = SimClient(self.server, "machine", Faults(random.Random(self.seed + 4)))
        informers = {
            kind: Informer(client, kind, clock=CLOCK, rng=self.machine_rng)
            for kind in (PODS, VIRTUAL_SERVICES, ENDPOINTS)
        }
        self.node = Node(client, informers[PODS], self.machine_rng, tasks)
        self.gateway = Gateway(informers[VIRTUAL_SERVICES], informers[ENDPOINTS], self.live, self.machine_rng)
        self.activator = Activator(self.node, informers[ENDPOINTS], self.machine_rng)
        self.traffic = Traffic(self.gateway, self.node, self.activator, self.machine_rng)
        status = StatusReconciler(client, informers[VIRTUAL_SERVICES], self.live, CLOCK).controller(self.machine_rng)
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
            group.create_task(run_services(services, CLOCK, self.control_rng))
            group.create_task(run_workloads(workloads, self.server.home, CLOCK, self.control_rng))
            group.create_task(self._knative(knative))

    async def _knative(self, client: SimClient) -> None:
        rng, home = self.control_rng, self.server.home
        world, board = KnativeWorld(client, CLOCK, rng), ScaleBoard()
        informers = autoscaler_informers(world)
        autoscaler = SimAutoscaler(client, informers, board=board, home=home, clock=CLOCK, rng=rng)
        autoscaler._gateway, autoscaler.activator = self.gateway, self.activator
        parts = Parts(client=client, home=home, clock=CLOCK, rng=rng, world=world, board=board, gateway=self.live)
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

    async def storm(self, tasks: asyncio.TaskGroup) -> None:
        """Changes, requests and faults, as the seed has it."""
        self.faults.refused, self.faults.answer_lost = 0.03, 0.02
        self.faults.watch_broken, self.faults.repeated = 0.01, 0.05
        await self.apply(image="app:1")
        end_s = CLOCK.monotonic_s() + self.stormy_s
        await asyncio.sleep(4.0)
        actions: tuple[Callable[[], Any], ...] = (
            self._update, self._canary, self._mistake, self._reject, self._kill, self._kill, self._remove
        )  # fmt: skip
        while CLOCK.monotonic_s() < end_s:
            match self.rng.random():
                case chance if chance < 0.25:
                    await self.rng.choice(actions)()
                case chance if chance < 0.7:
                    self._burst(tasks)
            await asyncio.sleep(self.rng.uniform(0.5, 8.0))
        await self.apply(image="app:last")
        self.faults.refused = self.faults.answer_lost = self.faults.watch_broken = self.faults.repeated = 0.0

    async def rest(self) -> None:
        """No faults, no requests, no changes: all comes to rest."""
        await asyncio.sleep(self.calm_s)
        self.invariants.at_rest(await self.isvc(), self.traffic)

    async def mistakes(self) -> None:
        """What cannot come up, and what cannot be served at all, is told of, and takes nothing away. In some worlds: in the
        storms of the others users make the same mistakes, and nobody waits for what is said of them."""
        if self.seed % MISTAKES_EVERY != 1:
            return
        await self._mistake()
        await self._check_mistake("seeded crash")
        await self._reject()
        await self._check_mistake("more than one container port")
        await self.apply(image="app:mended")
        await self.rest()

    async def quiet(self) -> None:
        """A control plane that starts anew finds nothing to do."""
        before = self.written()
        self.restarting.set()
        await asyncio.sleep(self.quiet_s)
        self.invariants.quiet(self.written() - before)

    def _burst(self, tasks: asyncio.TaskGroup) -> None:
        for _ in range(self.rng.randint(1, 30)):
            tasks.create_task(self._one_request(self.rng.uniform(0, 3), self.rng.choice(_WORK_S)))

    async def _one_request(self, after_s: float, work_s: float) -> None:
        await asyncio.sleep(after_s)
        await self.traffic.request(self.service, work_s)

    async def _update(self) -> None:
        await self.apply(image=f"app:{self.rng.randint(2, 9)}")

    async def _canary(self) -> None:
        await self.apply(image=f"app:{self.rng.randint(10, 19)}", canaryTrafficPercent=self.rng.choice((0, 20, 50)))

    async def _mistake(self) -> None:
        await self.apply(image=BROKEN_IMAGE)

    async def _reject(self) -> None:
        """What an InferenceService may say, and Knative refuses: only the controller can tell of it."""
        ports = [{"containerPort": 8080}]
        names = ("kserve-container", "beside")
        await self.apply(containers=[{"name": name, "image": "app:refused", "ports": ports} for name in names])

    async def _kill(self) -> None:
        self.restarting.set()

    async def _remove(self) -> None:
        if not self.traffic.waiting:  # Else somebody would rightly complain.
            self.traffic.forget(self.service)
            await self.user.delete(INFERENCE_SERVICES, _NAME, self.namespace)
            await asyncio.sleep(self.rng.uniform(0, 3))
            await self.apply(image="app:again")

    async def apply(self, *, image: str = "", **predictor: Any) -> None:
        """What a user does."""
        if image:
            predictor["containers"] = [{"name": "kserve-container", "image": image, "command": ["serve"]}]
        manifest = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": _NAME, "namespace": self.namespace},
            "spec": {"predictor": {**self.spec, **predictor}},
        }
        await self.user.apply(INFERENCE_SERVICES, manifest, field_manager="user")

    async def _check_mistake(self, words: str) -> None:
        await asyncio.sleep(MISTAKE_S)
        self.invariants.told(await self.isvc(), words)
        answered = self.traffic.answered
        await self.traffic.request(self.service, 0.01)
        self.invariants.expect(self.traffic.answered == answered + 1, f"{words!r} took the service down")

    async def isvc(self) -> JsonObject:
        return await self.user.get(INFERENCE_SERVICES, _NAME, self.namespace)

    def written(self) -> Counter[str]:
        return sum((client.writes for client in self.clients), start=Counter())
