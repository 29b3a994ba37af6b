from __future__ import annotations

from typing import Any

from controller.kube.resources import PODS
from onebox.workloads.ownership import (
    FOREGROUND_FINALIZER,
    ORPHAN_FINALIZER,
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

SOLID, WAITING, ABSENT = OwnerState.SOLID, OwnerState.WAITING, OwnerState.ABSENT


def node(uid: str, *owners: str, finalizers: tuple[str, ...] = (), deleting: bool = False, blocks: bool = True) -> Node:
    references = [
        {"uid": owner, "apiVersion": "v1", "kind": "Pod", "name": owner, "blockOwnerDeletion": blocks}
        for owner in owners
    ]
    meta: dict[str, Any] = {
        "name": uid,
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": "1",
        "ownerReferences": references,
    }
    meta["finalizers"] = list(finalizers)
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return parse_node(PODS, {"metadata": meta})


def test_an_object_without_owners_and_one_with_a_living_owner_stay() -> None:
    assert decide_collection(node("a"), {}, []) == ()
    assert decide_collection(node("a", "o"), {"o": SOLID}, []) == ()


def test_an_object_goes_with_its_last_owner_and_forgets_one_of_several() -> None:
    both = node("a", "o", "p")
    assert decide_collection(both, {"o": ABSENT, "p": ABSENT}, []) == (DeleteNode(both),)
    assert decide_collection(both, {"o": ABSENT, "p": SOLID}, []) == (ForgetOwners(both, frozenset({"o"})),)
    assert decide_collection(both, {"o": WAITING, "p": SOLID}, []) == (ForgetOwners(both, frozenset({"o"})),)


def test_what_is_being_deleted_is_not_deleted_again() -> None:
    assert decide_collection(node("a", "o", deleting=True, finalizers=("x",)), {"o": ABSENT}, []) == ()


def test_an_owner_in_the_foreground_takes_whole_trees_along() -> None:
    middle, leaf = node("m", "o"), node("l", "m")
    assert decide_collection(middle, {"o": WAITING}, [leaf]) == (DeleteNode(middle, foreground=True),)
    assert decide_collection(leaf, {"m": WAITING}, []) == (DeleteNode(leaf, foreground=False),)


def test_a_foreground_deletion_ends_when_no_dependent_blocks_it() -> None:
    owner = node("o", finalizers=(FOREGROUND_FINALIZER,), deleting=True)
    assert decide_collection(owner, {}, [node("a", "o")]) == ()
    free = node("b", "o", blocks=False)
    assert decide_collection(owner, {}, [free]) == (RemoveFinalizer(owner, FOREGROUND_FINALIZER),)


def test_orphans_forget_their_owner_before_it_goes() -> None:
    owner, child = node("o", finalizers=(ORPHAN_FINALIZER,), deleting=True), node("a", "o")
    assert decide_collection(owner, {}, [child]) == (ForgetOwners(child, frozenset({"o"})),)
    assert decide_collection(owner, {}, []) == (RemoveFinalizer(owner, ORPHAN_FINALIZER),)


def test_an_unknown_owner_proves_nothing() -> None:
    graph = OwnerGraph()
    graph.put(node("solid"))
    graph.put(node("waits", finalizers=(FOREGROUND_FINALIZER,), deleting=True))
    graph.put(node("orphans", finalizers=(ORPHAN_FINALIZER,), deleting=True))
    states = {
        uid: known_state(Owner(uid, "v1", "Pod", uid, True), graph) for uid in ("solid", "waits", "orphans", "never")
    }
    assert states == {"solid": SOLID, "waits": WAITING, "orphans": SOLID, "never": None}


def test_the_graph_follows_changing_owners() -> None:
    graph = OwnerGraph()
    graph.put(node("a", "o"))
    graph.put(node("b", "o"))
    assert [found.uid for found in graph.dependents("o")] == ["a", "b"]
    graph.put(node("a", "p"))
    assert [found.uid for found in graph.dependents("o")] == ["b"]
    graph.remove("b")
    assert graph.dependents("o") == []
    assert graph.remove("never") is None
