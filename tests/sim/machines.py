"""What runs pods and carries requests, simulated: node, gateway and activator, each with its own late view of the API."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import orjson

from controller.base.errors import TransientError
from controller.base.json import JsonObject, JsonView
from controller.kube.errors import Conflict, NotFound
from controller.kube.informer import Change, ChangeKind, Informer
from controller.kube.resources import PODS
from controller.reconcile.plan import Key
from onebox.istio.live import LiveConfig, VersionId
from onebox.knative.autoscaler.autoscaler import Autoscaler
from onebox.knative.endpoints import parse_endpoints
from onebox.knative.stats_link import ActivatorStat
from onebox.workloads.endpoints import PORTS_ANNOTATION
from tests.sim.api import SimClient

ACTIVATOR_PORT = 8012
BROKEN_IMAGE = "app:broken"
"""A container of it ends at once, each time."""
DRAIN_S = 1.0
"""How long a pod that goes away still takes requests: Envoy may not have heard of it yet."""
_ATTEMPTS_MAX = 60


class Refused(Exception):
    """Nobody listens there any more."""


@dataclass(slots=True)
class SimPod:
    """One process that serves."""

    name: str
    revision: Key
    port: int
    listens: bool = False
    running: int = 0
    came: int = 0
    area: float = 0.0
    since_s: float = 0.0

    async def serve(self, work_s: float) -> None:
        """Answers one request; Refused where nobody listens. What was accepted is answered, whatever becomes of the pod."""
        if not self.listens:
            raise Refused(self.name)
        self._move()
        self.came += 1
        self.running += 1
        try:
            await asyncio.sleep(work_s)
        finally:
            self._move()
            self.running -= 1

    def load(self, period_s: float) -> tuple[float, float]:
        """(average concurrency, requests/s) since it was last asked, a period ago."""
        self._move()
        area, came, self.area, self.came = self.area, self.came, 0.0, 0
        return area / period_s, came / period_s

    def _move(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self.area += self.running * (now_s - self.since_s)
        self.since_s = now_s


class Node:
    """Starts pods after a while, some slowly, some only at the second attempt; ends them as Kubernetes does."""

    def __init__(self, client: SimClient, pods: Informer, rng: random.Random, tasks: asyncio.TaskGroup) -> None:
        self._client = client
        self._rng = rng
        self._tasks = tasks
        self.pods: dict[int, SimPod] = {}
        self._seen: set[str] = set()
        self._ending: set[str] = set()
        self._by_uid: dict[str, SimPod] = {}
        self._next_port = 20_000
        pods.subscribe(self._on_change)

    def of(self, revision: Key) -> list[SimPod]:
        return [pod for pod in self.pods.values() if pod.revision == revision and pod.listens]

    def _on_change(self, change: Change) -> None:
        item = change.object
        uid = item["metadata"]["uid"]
        if change.kind is ChangeKind.DELETED:
            pod = self._by_uid.pop(uid, None)
            if pod is not None:
                pod.listens = False
        elif "deletionTimestamp" in item["metadata"]:
            if uid not in self._ending:
                self._ending.add(uid)
                self._tasks.create_task(self._end(item))
        elif uid not in self._seen:
            self._seen.add(uid)
            self._tasks.create_task(self._start(item))

    async def _start(self, item: JsonView) -> None:
        meta, spec = item["metadata"], item["spec"]
        revision = Key(meta["namespace"], meta["labels"]["serving.knative.dev/revision"])
        ports = [port["containerPort"] for found in spec["containers"] for port in found.get("ports") or ()]
        mapped = {str(number): self._next_port + index for index, number in enumerate(ports)}
        self._next_port += len(ports)
        await asyncio.sleep(self._rng.choice((0.05, 0.1, 0.3, 2.0)))
        if any(found["image"] == BROKEN_IMAGE for found in spec["containers"]):
            await self._say(item, _crashed(item), mapped)
            return
        if self._rng.random() < 0.1:
            await self._say(item, _crashed(item), mapped)
            await asyncio.sleep(1.0)
        pod = SimPod(meta["name"], revision, mapped["8012"])
        if meta["uid"] in self._ending:
            return
        self._by_uid[meta["uid"]] = pod
        self.pods[pod.port] = pod
        pod.listens, pod.since_s = True, asyncio.get_running_loop().time()
        await self._say(item, _running(item), mapped)

    async def _end(self, item: JsonView) -> None:
        uid = item["metadata"]["uid"]
        await asyncio.sleep(DRAIN_S)
        pod = self._by_uid.get(uid)
        while pod is not None and pod.running:
            await asyncio.sleep(0.05)
        if pod is not None:
            pod.listens = False
        meta = item["metadata"]
        await until_done(lambda: self._client.delete(PODS, meta["name"], meta["namespace"], uid=uid, grace_period_s=0))

    async def _say(self, item: JsonView, status: JsonObject, mapped: Mapping[str, int]) -> None:
        meta = item["metadata"]
        annotations = {PORTS_ANNOTATION: orjson.dumps(mapped).decode()}
        body = {"metadata": {"uid": meta["uid"], "annotations": annotations}, "status": status}
        await until_done(lambda: self._client.patch(PODS, meta["name"], meta["namespace"], body, subresource="status"))


class Gateway:
    """Envoy and what translates for it: follows routes and endpoints some milliseconds late."""

    def __init__(self, virtual_services: Informer, endpoints: Informer, live: LiveConfig, rng: random.Random) -> None:
        self._virtual_services = virtual_services
        self._endpoints = endpoints
        self._live = live
        self._rng = rng
        self.routes: dict[Key, JsonView] = {}
        self.addresses: dict[Key, tuple[int, ...]] = {}
        virtual_services.subscribe(lambda change: self._later(change, self._take_route))
        endpoints.subscribe(lambda change: self._later(change, self._take_endpoints))

    async def is_proxied(self, namespace: str, revision: str) -> bool:
        """autoscaler.path.RequestPath."""
        return set(self.addresses.get(Key(namespace, revision), ())) <= {ACTIVATOR_PORT}

    def revision_for(self, service: Key) -> Key | None:
        """The revision of the next request for an InferenceService; None for a 404."""
        outer = self.routes.get(service)
        if outer is None:
            return None
        host = outer["spec"]["http"][-1]["headers"]["request"]["set"]["Host"]
        inner = self.routes.get(Key(service.namespace, host.split(".")[0] + "-ingress"))
        if inner is None:
            return None
        routes = inner["spec"]["http"][-1]["route"]
        chosen = self._rng.choices(routes, [route.get("weight", 100) for route in routes])[0]
        return Key(service.namespace, chosen["destination"]["host"].split(".")[0])

    def _later(self, change: Change, take: Callable[[Change], None]) -> None:
        # In order: a late event must not overtake an earlier one.
        asyncio.get_running_loop().call_later(0.02, take, change)

    def _take_route(self, change: Change) -> None:
        meta = change.object["metadata"]
        key = Key(meta["namespace"], meta["name"])
        if change.kind is ChangeKind.DELETED:
            self.routes.pop(key, None)
            self._live.forget(meta["uid"])
            return
        self.routes[key] = change.object
        version = VersionId(namespace=key.namespace, name=key.name, uid=meta["uid"], generation=meta["generation"])
        if self._live.generation_of(version.uid) < version.generation:
            self._live.accept(version)

    def _take_endpoints(self, change: Change) -> None:
        meta = change.object["metadata"]
        key = Key(meta["namespace"], meta["name"])
        if change.kind is ChangeKind.DELETED:
            self.addresses.pop(key, None)
            return
        ready = [pod for pod in parse_endpoints(change.object) if pod.ready]
        self.addresses[key] = tuple(address.port for pod in ready if (address := pod.data()) is not None)


class Activator:
    """Holds requests until a pod is ready, and tells the autoscaler."""

    def __init__(self, node: Node, endpoints: Informer, rng: random.Random) -> None:
        self._node = node
        self._endpoints = endpoints
        self._rng = rng
        self.autoscaler: Autoscaler | None = None
        self.held: Counter[Key] = Counter()
        self._told: Counter[Key] = Counter()

    async def serve(self, revision: Key, work_s: float) -> None:
        """Answers a request; waits as long as it takes."""
        first = self.held[revision] == 0
        self.held[revision] += 1
        try:
            if first:
                self._tell(revision, 1.0)
            while not await self._tried(revision, work_s):
                await asyncio.sleep(0.02)
        finally:
            self.held[revision] -= 1

    async def report_forever(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for revision, count in list(self.held.items()):
                self._tell(revision, float(count))
                if not count:
                    del self.held[revision]

    async def _tried(self, revision: Key, work_s: float) -> bool:
        private = self._endpoints.get(revision.namespace, f"{revision.name}-private")
        ports = [address.port for pod in parse_endpoints(private) if pod.ready and (address := pod.data())]
        while ports:
            port = ports.pop(self._rng.randrange(len(ports)))
            try:
                await self._node.pods[port].serve(work_s)
                return True
            except Refused:
                continue
        return False

    def _tell(self, revision: Key, concurrency: float) -> None:
        if self.autoscaler is not None:
            self.autoscaler._take(
                ActivatorStat(
                    namespace=revision.namespace,
                    name=revision.name,
                    average_concurrent_requests=concurrency,
                    request_count=concurrency,
                )
            )


@dataclass
class Traffic:
    """Requests, and what became of them."""

    gateway: Gateway
    node: Node
    activator: Activator
    rng: random.Random
    answered: int = 0
    waiting: int = 0
    lost: list[str] = field(default_factory=list)
    routed: set[Key] = field(default_factory=set)
    """Services that were found once: from then on nobody should hear that they are not there."""
    going: set[str] = field(default_factory=set)
    """The uids of routes whose service its user has deleted: who still finds one of those was promised nothing."""

    def forget(self, service: Key) -> None:
        """Its user is about to delete this service."""
        self.routed.discard(service)
        if (route := self.gateway.routes.get(service)) is not None:
            self.going.add(route["metadata"]["uid"])

    async def request(self, service: Key, work_s: float) -> None:
        """One request through the gateway, tried elsewhere where nothing was sent yet, as Envoy does."""
        self.waiting += 1
        try:
            for _ in range(_ATTEMPTS_MAX):
                revision = self.gateway.revision_for(service)
                if revision is None:
                    if service in self.routed:
                        self._lose(service, "not found")
                    return
                if self.gateway.routes[service]["metadata"]["uid"] not in self.going:
                    self.routed.add(service)
                if await self._is_answered(revision, work_s):
                    self.answered += 1
                    return
                await asyncio.sleep(0.025)  # Envoy's back-off between attempts.
            self._lose(service, "refused by all")
        finally:
            self.waiting -= 1

    async def _is_answered(self, revision: Key, work_s: float) -> bool:
        ports = self.gateway.addresses.get(revision, ())
        if not ports:
            return False
        port = self.rng.choice(ports)
        if port == ACTIVATOR_PORT:
            await self.activator.serve(revision, work_s)
            return True
        try:
            await self.node.pods[port].serve(work_s)
        except Refused:
            return False
        return True

    def _lose(self, service: Key, why: str) -> None:
        self.lost.append(f"{service.name} at {asyncio.get_running_loop().time():.2f} s: {why}")


async def until_done(attempt: Callable[[], Awaitable[object]]) -> None:
    """A machine tries again until the API server hears it; what is gone needs no more words."""
    while True:
        try:
            await attempt()
            return
        except (NotFound, Conflict):
            return
        except TransientError:
            await asyncio.sleep(0.1)


def _running(item: JsonView) -> JsonObject:
    return {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            _container(found["name"], {"running": {}}, ready=True) for found in item["spec"]["containers"]
        ],
    }


def _crashed(item: JsonView) -> JsonObject:
    ended = {"terminated": {"exitCode": 1, "message": "a seeded crash"}}
    statuses = [_container(found["name"], ended, ready=False) for found in item["spec"]["containers"]]
    return {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": statuses}


def _container(name: str, state: JsonObject, *, ready: bool) -> JsonObject:
    return {"name": name, "ready": ready, "restartCount": 0, "image": "i", "imageID": "i", "state": state}
