"""Garbage collection: deletes what has lost all its owners, and ends deletions that wait for dependents.

Watches the metadata of every kind the API server has, custom ones included as they come and go. That an owner is not in the
caches proves nothing (watches of different kinds run apart), so an owner counts as absent only when its own watch said that
it was deleted, or the API server says so when asked.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import assert_never

from controller.base.clock import Clock
from controller.base.errors import TransientError
from controller.base.json import JsonObject, JsonView
from controller.base.logging import get_logger
from controller.kube.client import KubeClient
from controller.kube.discovery import discover
from controller.kube.errors import NotFound
from controller.kube.informer import Change, ChangeKind, Informer
from controller.kube.resources import CRDS, EVENTS, ResourceType
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome
from onebox.workloads.ownership import (
    FOREGROUND_FINALIZER,
    ORPHAN_FINALIZER,
    Action,
    DeleteNode,
    ForgetOwners,
    Node,
    Owner,
    OwnerGraph,
    OwnerState,
    RemoveFinalizer,
    decide_collection,
    known_state,
    parse_node,
)

FIELD_MANAGER = "generic-garbage-collector"
WORKERS = 8
"""Objects collected at once; deletions wait for the API server's disk. A guess."""
UNKNOWN_OWNER_WAIT_S = 2.0
"""How long an owner that no cache has is waited for before the API server is asked: usually its watch is just slower. A
guess at twice the slowest start of a watch."""
UNKNOWN_KIND_WAIT_S = 30.0
"""When an object is looked at again whose owner is of a kind that the server does not have (yet). A guess."""
ABSENT_MAX = 20_000
"""Owners remembered as deleted: for each of 2,000 services ten objects. Forgetting one costs a request."""
REDISCOVER_S = 0.5
"""CRDs come in bunches; this long after the first of them the kinds are read anew. A guess."""
_KEPT = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp")

log = get_logger(__name__)


class GarbageCollector:
    """Follows every kind; `run` works until cancelled."""

    def __init__(
        self, client: KubeClient, *, shared: Mapping[ResourceType, Informer], clock: Clock, rng: random.Random
    ) -> None:
        self._client = client
        self._shared = shared
        """Informers that run anyway; only other kinds get one of their own."""
        self._clock = clock
        self._rng = rng
        self._graph = OwnerGraph()
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._kinds: dict[tuple[str, str], ResourceType] = {}
        """Kinds by group and kind, in the version that is watched."""
        self._informers: dict[ResourceType, Informer] = {}
        self._tasks: dict[ResourceType, asyncio.Task[None]] = {}
        """The informers of our own, running."""
        self._crds_changed = asyncio.Event()
        self.loop = Controller("garbage", self.reconcile, workers=WORKERS, clock=clock, rng=rng)

    async def run(self) -> None:
        """Watches all kinds and collects until cancelled."""
        self._shared[CRDS].subscribe(lambda _: self._crds_changed.set())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop.run())
            while True:
                self._crds_changed.clear()
                try:
                    await self._follow_kinds(tasks)
                except TransientError as error:
                    log.warning("kinds not read", error=str(error))
                    self._crds_changed.set()
                await self._crds_changed.wait()
                await asyncio.sleep(REDISCOVER_S)

    def kinds(self) -> tuple[ResourceType, ...]:
        """Every kind that objects are known of, Events included."""
        return (*self._kinds.values(), EVENTS)

    async def reconcile(self, key: Key) -> Outcome:
        """Decides about the object with the uid `key.name`."""
        node = self._graph.get(key.name)
        if node is None:
            return Outcome()
        states: dict[str, OwnerState] = {}
        for owner in node.owners if not node.deleting else ():
            state = self._known_state(owner) or await self._ask(node, owner)
            if state is None:
                return Outcome(requeue_after_s=UNKNOWN_KIND_WAIT_S)
            states[owner.uid] = state
        for action in decide_collection(node, states, self._graph.dependents(node.uid)):
            await self._carry_out(action)
        return Outcome()

    def _known_state(self, owner: Owner) -> OwnerState | None:
        return OwnerState.ABSENT if owner.uid in self._absent else known_state(owner, self._graph)

    async def _ask(self, node: Node, owner: Owner) -> OwnerState | None:
        """What the API server says; None where the owner's kind is not known (yet)."""
        group = owner.api_version.rpartition("/")[0]
        resource = self._kinds.get((group, owner.kind))
        if resource is None:
            return None
        if resource.namespaced and not node.namespace:
            return OwnerState.SOLID  # Such a reference means nothing; Kubernetes leaves the object alone as well.
        try:
            found = await self._client.get(resource, owner.name, node.namespace or None)
        except NotFound:
            return self._note_absent(owner.uid)
        return OwnerState.SOLID if found["metadata"]["uid"] == owner.uid else self._note_absent(owner.uid)

    def _note_absent(self, uid: str) -> OwnerState:
        self._absent[uid] = None
        if len(self._absent) > ABSENT_MAX:
            self._absent.popitem(last=False)
        return OwnerState.ABSENT

    async def _carry_out(self, action: Action) -> None:
        node = action.node
        place = (node.resource, node.name, node.namespace or None)
        match action:
            case DeleteNode():
                propagation = "Foreground" if action.foreground else "Background"
                await self._client.delete(*place, uid=node.uid, propagation=propagation)
                log.info("collected", kind=node.resource.kind, namespace=node.namespace, object=node.name)
            case ForgetOwners():
                await self._forget_owners(node, action.uids)
            case RemoveFinalizer():
                remaining = [finalizer for finalizer in node.finalizers if finalizer != action.finalizer]
                await self._patch_metadata(node, {"finalizers": remaining or None, "resourceVersion": node.version})
            case _:
                assert_never(action)

    async def _forget_owners(self, node: Node, uids: frozenset[str]) -> None:
        stored = await self._client.get(node.resource, node.name, node.namespace or None)
        references = stored["metadata"].get("ownerReferences") or ()
        remaining = [reference for reference in references if reference["uid"] not in uids]
        version = stored["metadata"]["resourceVersion"]
        await self._patch_metadata(node, {"ownerReferences": remaining or None, "resourceVersion": version})

    async def _patch_metadata(self, node: Node, meta: JsonObject) -> None:
        namespace = node.namespace or None
        await self._client.patch(node.resource, node.name, namespace, {"metadata": meta}, field_manager=FIELD_MANAGER)

    async def _follow_kinds(self, tasks: asyncio.TaskGroup) -> None:
        found = [resource for resource in await discover(self._client) if resource.plural != EVENTS.plural]
        self._kinds = {(resource.group, resource.kind): resource for resource in found}
        for resource in found:
            if resource not in self._informers:
                self._follow(resource, tasks)
        for resource in set(self._informers) - set(found):
            self._unfollow(resource)

    def _follow(self, resource: ResourceType, tasks: asyncio.TaskGroup) -> None:
        informer = self._shared.get(resource)
        if informer is None:
            informer = Informer(self._client, resource, clock=self._clock, rng=self._rng, keep=keep_metadata)
            self._tasks[resource] = tasks.create_task(informer.run())
        self._informers[resource] = informer
        informer.subscribe(lambda change: self._observe(resource, change))

    def _unfollow(self, resource: ResourceType) -> None:
        """The kind is gone, and all its objects with it, whether or not their watch still said so."""
        task = self._tasks.pop(resource, None)
        if task is not None:
            task.cancel()
        for item in self._informers.pop(resource).items():
            self._observe(resource, Change(ChangeKind.DELETED, item))

    def _observe(self, resource: ResourceType, change: Change) -> None:
        node = parse_node(resource, change.object)
        if change.kind is ChangeKind.DELETED:
            self._graph.remove(node.uid)
            self._note_absent(node.uid)
            # Those whose owner is gone, and those that waited for this one to go.
            self._enqueue(dependent.uid for dependent in self._graph.dependents(node.uid))
            self._enqueue(owner.uid for owner in node.owners)
            return
        old = self._graph.get(node.uid)
        self._graph.put(node)
        if old is not None and old.owners != node.owners:
            self._enqueue(owner.uid for owner in old.owners)
        if node.ends_with(FOREGROUND_FINALIZER) or node.ends_with(ORPHAN_FINALIZER):
            self._enqueue([node.uid, *(dependent.uid for dependent in self._graph.dependents(node.uid))])
        states = {self._known_state(owner) for owner in node.owners}
        if states & {OwnerState.ABSENT, OwnerState.WAITING}:
            self._enqueue([node.uid])
        elif None in states:
            self._enqueue([node.uid], after_s=UNKNOWN_OWNER_WAIT_S)

    def _enqueue(self, uids: Iterable[str], after_s: float = 0) -> None:
        for uid in uids:
            self.loop.enqueue(Key("", uid), after_s)


def keep_metadata(item: JsonView) -> JsonView:
    """The part of an object that garbage collection looks at."""
    meta = item["metadata"]
    return {"metadata": {name: meta[name] for name in _KEPT if name in meta}}
