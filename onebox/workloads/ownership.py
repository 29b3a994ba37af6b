"""Who owns whom, and what must go when an owner goes. (pure)

The rules are kube-controller-manager's (pkg/controller/garbagecollector): an object goes when none of its owners exists any
more. An owner that is deleted in the foreground carries the finalizer foregroundDeletion until its dependents are gone; one
that leaves orphans carries `orphan` until they forgot it. The API server sets these; here is what they lead to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from controller.base.json import JsonView
from controller.kube.resources import ResourceType

FOREGROUND_FINALIZER = "foregroundDeletion"
ORPHAN_FINALIZER = "orphan"


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner reference, as far as it matters here."""

    uid: str
    api_version: str
    kind: str
    name: str
    blocks: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An object as garbage collection sees it."""

    resource: ResourceType
    namespace: str
    name: str
    uid: str
    version: str
    owners: tuple[Owner, ...]
    finalizers: tuple[str, ...]
    deleting: bool

    def ends_with(self, finalizer: str) -> bool:
        """Whether it is being deleted in this way."""
        return self.deleting and finalizer in self.finalizers


class OwnerState(StrEnum):
    SOLID = "solid"
    """It exists, and keeps what it owns."""
    WAITING = "waiting"
    """It is being deleted in the foreground, and waits for this dependent."""
    ABSENT = "absent"
    """It is certain that it does not exist any more."""


@dataclass(frozen=True, slots=True)
class DeleteNode:
    node: Node
    foreground: bool = False
    """Its own dependents go first."""


@dataclass(frozen=True, slots=True)
class ForgetOwners:
    """Remove these owner references from the object."""

    node: Node
    uids: frozenset[str]


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    node: Node
    finalizer: str


Action: TypeAlias = DeleteNode | ForgetOwners | RemoveFinalizer


class OwnerGraph:
    """All objects, by uid, and which of them name which owners."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def put(self, node: Node) -> None:
        self.remove(node.uid)
        self._nodes[node.uid] = node
        for owner in node.owners:
            self._dependents.setdefault(owner.uid, {})[node.uid] = None

    def remove(self, uid: str) -> Node | None:
        node = self._nodes.pop(uid, None)
        for owner in node.owners if node else ():
            siblings = self._dependents[owner.uid]
            siblings.pop(uid, None)
            if not siblings:
                del self._dependents[owner.uid]
        return node

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def dependents(self, uid: str) -> list[Node]:
        """The objects that name this owner, whether it exists or not."""
        return [self._nodes[dependent] for dependent in self._dependents.get(uid, ())]


def parse_node(resource: ResourceType, item: JsonView) -> Node:
    """The part of a stored object that says who owns it and how it is being deleted."""
    meta = item["metadata"]
    return Node(
        resource=resource,
        namespace=meta.get("namespace") or "",
        name=meta["name"],
        uid=meta["uid"],
        version=str(meta["resourceVersion"]),
        owners=tuple(_owner(reference) for reference in meta.get("ownerReferences") or ()),
        finalizers=tuple(meta.get("finalizers") or ()),
        deleting=bool(meta.get("deletionTimestamp")),
    )


def _owner(reference: JsonView) -> Owner:
    return Owner(
        uid=reference["uid"],
        api_version=reference["apiVersion"],
        kind=reference["kind"],
        name=reference["name"],
        blocks=bool(reference.get("blockOwnerDeletion")),
    )


def known_state(owner: Owner, graph: OwnerGraph) -> OwnerState | None:
    """What the graph says about an owner; None where it does not know the owner, which proves nothing."""
    node = graph.get(owner.uid)
    if node is None:
        return None
    return OwnerState.WAITING if node.ends_with(FOREGROUND_FINALIZER) else OwnerState.SOLID


def decide_collection(node: Node, owners: Mapping[str, OwnerState], dependents: Iterable[Node]) -> tuple[Action, ...]:
    """What to do about one object. `owners` has the state of each of its owners, by uid."""
    if node.deleting:
        return tuple(_decide_deleting(node, tuple(dependents)))
    solid = [uid for uid, state in owners.items() if state is OwnerState.SOLID]
    if not owners or len(solid) == len(owners):
        return ()
    if solid:
        return (ForgetOwners(node, frozenset(owners) - frozenset(solid)),)
    # Where an owner waits for it in the foreground, whatever depends on it goes first as well.
    waited_for = OwnerState.WAITING in owners.values()
    return (DeleteNode(node, foreground=waited_for and any(True for _ in dependents)),)


def _decide_deleting(node: Node, dependents: tuple[Node, ...]) -> Iterable[Action]:
    if ORPHAN_FINALIZER in node.finalizers:
        if dependents:
            yield from (ForgetOwners(dependent, frozenset({node.uid})) for dependent in dependents)
        else:
            yield RemoveFinalizer(node, ORPHAN_FINALIZER)
    elif FOREGROUND_FINALIZER in node.finalizers and not any(_blocks(dependent, node.uid) for dependent in dependents):
        yield RemoveFinalizer(node, FOREGROUND_FINALIZER)


def _blocks(dependent: Node, uid: str) -> bool:
    return any(owner.uid == uid and owner.blocks for owner in dependent.owners)
