from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.kube.store import ChangeKind, Store, version_of


def pod(name: str, version: int, *, uid: str = "u", namespace: str = "ns", **labels: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"metadata": meta}


def kinds(changes: list[Any]) -> list[str]:
    return [str(change.kind) for change in changes]


def test_a_list_reports_what_a_broken_watch_missed() -> None:
    store = Store()
    assert kinds(store.replace([pod("a", 1), pod("b", 2)], 2)) == ["ADDED", "ADDED"]
    changes = store.replace([pod("b", 4), pod("c", 5)], 5)
    assert sorted((str(change.kind), change.object["metadata"]["name"]) for change in changes) == [
        ("ADDED", "c"),
        ("DELETED", "a"),
        ("MODIFIED", "b"),
    ]
    assert store.replace([pod("b", 4), pod("c", 5)], 6) == []


def test_recreation_between_two_lists_is_an_end_and_a_beginning() -> None:
    store = Store()
    store.replace([pod("a", 1, uid="old")], 1)
    changes = store.replace([pod("a", 5, uid="new")], 5)
    assert kinds(changes) == ["DELETED", "ADDED"]
    assert changes[0].object["metadata"]["uid"] == "old"


def test_a_stale_event_never_takes_back_a_write_of_our_own() -> None:
    store = Store()
    store.replace([pod("a", 1)], 1)
    assert kinds(store.remember(pod("a", 7))) == ["MODIFIED"]
    assert store.observe(pod("a", 5), deleted=False) == []
    assert store.observe(pod("a", 7), deleted=False) == []
    assert version_of(store.get(("ns", "a")) or {}) == 7


def test_a_stale_deletion_does_not_remove_what_we_created_after_it() -> None:
    store = Store()
    store.replace([pod("a", 1, uid="old")], 1)
    store.remember(pod("a", 9, uid="new"))
    assert store.observe(pod("a", 8, uid="old"), deleted=True) == []
    assert store.get(("ns", "a")) is not None


def test_a_write_that_was_undone_before_its_answer_came_is_not_revived() -> None:
    store = Store()
    store.observe(pod("a", 5), deleted=False)
    store.observe(pod("a", 6), deleted=True)
    assert store.remember(pod("a", 5)) == []
    assert store.get(("ns", "a")) is None


def test_a_list_older_than_our_own_write_keeps_the_write() -> None:
    store = Store()
    store.replace([], 3)
    store.remember(pod("a", 5))
    assert store.replace([], 4) == []
    assert store.get(("ns", "a")) is not None
    assert kinds(store.replace([], 6)) == ["DELETED"]


def test_indexes_follow_changes() -> None:
    store = Store()
    store.replace([pod("a", 1, app="x")], 1)
    store.add_index("app", lambda item: item["metadata"]["labels"].values())
    assert [item["metadata"]["name"] for item in store.indexed("app", "x")] == ["a"]
    store.observe(pod("a", 2, app="y"), deleted=False)
    store.observe(pod("b", 3, app="y", namespace="other"), deleted=False)
    assert store.indexed("app", "x") == []
    assert [item["metadata"]["name"] for item in store.indexed("app", "y")] == ["a", "b"]
    assert [item["metadata"]["name"] for item in store.items("other")] == ["b"]
    store.observe(pod("b", 4, namespace="other"), deleted=True)
    assert store.items("other") == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.randoms())
def test_any_order_of_arrival_ends_in_the_newest_state(steps: list[tuple[str, bool]], rng: Any) -> None:
    """Events in order, with our own writes remembered at any moment: the store ends where the server is."""
    truth: dict[str, dict[str, Any]] = {}
    store = Store()
    lives = dict.fromkeys("abc", 0)
    for version, (name, delete) in enumerate(steps, start=1):
        if delete and name not in truth:
            continue
        if delete:
            lives[name] += 1
            del truth[name]
            obj = pod(name, version, uid=str(lives[name] - 1))
        else:
            obj = truth[name] = pod(name, version, uid=str(lives[name]))
            if rng.random() < 0.5:
                store.remember(obj)
        for change in store.observe(obj, deleted=delete):
            assert change.kind in ChangeKind
        if not delete and rng.random() < 0.3:
            store.remember(obj)
    assert {item["metadata"]["name"]: item for item in store.items()} == truth
    for index_key in ("ns",):
        assert len(store.items(index_key)) == len(truth)
