"""Field ownership: sets, merging, server-side apply; the algebra by property, the rules by example."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.structural import NodePool
from onebox.apiserver.fields.managers import (
    APPLY,
    UPDATE,
    ApplyConflict,
    Entry,
    Manager,
    after_apply,
    after_update,
    parse_entries,
    render_entries,
    with_applied,
)
from onebox.apiserver.fields.sets import describe, difference, intersection, paths, union, without_branch
from onebox.apiserver.fields.typed import all_fields, compare, fields_set, merge, remove

NODE = NodePool().build(
    {
        "type": "object",
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "integer"},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
            "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "ports": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}},
            },
            "deep": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}},
        },
    }
)
ONE = Manager(name="one", operation=APPLY, api_version="v1")
TWO = Manager(name="two", operation=APPLY, api_version="v1")
EDITOR = Manager(name="editor", operation=UPDATE, api_version="v1")

names = st.sampled_from(["p", "q", "r"])
objects = st.fixed_dictionaries(
    {},
    optional={
        "a": st.sampled_from(["1", "2"]),
        "b": st.integers(0, 2),
        "whole": st.dictionaries(names, st.sampled_from(["1", "2"]), max_size=2),
        "names": st.lists(names, unique=True, max_size=3),
        "list": st.lists(names, max_size=2),
        "map": st.dictionaries(names, st.sampled_from(["1", "2"]), max_size=3),
        "ports": st.lists(
            st.fixed_dictionaries({"name": names}, optional={"port": st.integers(1, 3)}),
            unique_by=lambda port: port["name"],
            max_size=3,
        ),
        "deep": st.fixed_dictionaries({}, optional={"x": st.just("1"), "y": st.sampled_from(["1", "2"])}),
    },
)
sets = objects.map(lambda value: fields_set(value, NODE)) | objects.map(lambda value: all_fields(value, NODE))


def _paths(fields: dict[str, Any]) -> set[tuple[str, ...]]:
    return set(paths(fields))


@given(sets, sets)
def test_sets_follow_the_algebra_of_sets(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert _paths(union(left, right)) == _paths(left) | _paths(right)
    assert _paths(intersection(left, right)) == _paths(left) & _paths(right)
    assert _paths(difference(left, right)) == _paths(left) - _paths(right)


@given(objects, objects)
def test_what_compare_calls_unchanged_is_equal(old: dict[str, Any], new: dict[str, Any]) -> None:
    changed, removed = compare(old, new, NODE)
    same = not changed and not removed
    assert same is _same_but_for_order(old, new)
    assert compare(new, new, NODE) == ({}, {})


def _same_but_for_order(old: dict[str, Any], new: dict[str, Any]) -> bool:
    def ordered(value: dict[str, Any]) -> dict[str, Any]:
        out = dict(value)
        if "names" in out:
            out["names"] = sorted(out["names"])
        if "ports" in out:
            out["ports"] = sorted(out["ports"], key=lambda port: str(port["name"]))
        return out

    return ordered(old) == ordered(new)


@given(objects, objects)
def test_after_a_merge_everything_that_was_applied_is_there(live: dict[str, Any], applied: dict[str, Any]) -> None:
    merged = merge(live, applied, NODE)
    assert merge(merged, applied, NODE) == merged
    wanted = _paths(fields_set(applied, NODE))
    assert wanted <= _paths(all_fields(merged, NODE)) | {path for path in wanted if path[-1] in ("f:ports", "f:names")}


@given(objects, objects)
def test_applying_twice_changes_nothing_more(live: dict[str, Any], applied: dict[str, Any]) -> None:
    entries = after_update((), {}, live, node=NODE, manager=EDITOR, time="t0")
    merged, owned, lost = after_apply(entries, live, applied, node=NODE, manager=ONE, force=True)
    managers = with_applied(entries, manager=ONE, fields=owned, lost=lost, time="t1")
    again, owned_again, lost_again = after_apply(managers, merged, applied, node=NODE, manager=ONE, force=False)
    assert again == merged
    assert with_applied(managers, manager=ONE, fields=owned_again, lost=lost_again, time="t2") == managers


@given(objects)
def test_what_nobody_else_owns_goes_when_its_only_manager_applies_nothing(applied: dict[str, Any]) -> None:
    merged, owned, lost = after_apply((), {}, applied, node=NODE, manager=ONE, force=False)
    managers = with_applied((), manager=ONE, fields=owned, lost=lost, time="t")
    left, _, _ = after_apply(managers, merged, {}, node=NODE, manager=ONE, force=False)
    assert left == {}


def test_an_update_owns_what_it_changed_and_takes_it_from_others() -> None:
    first = after_update((), {}, {"a": "1", "map": {"p": "1"}}, node=NODE, manager=ONE, time="t1")
    second = after_update(
        first,
        {"a": "1", "map": {"p": "1"}},
        {"a": "2", "map": {"p": "1", "q": "1"}},
        node=NODE,
        manager=EDITOR,
        time="t2",
    )
    owned = {entry.manager.name: entry.fields for entry in second}
    assert owned == {"one": {"f:map": {".": {}, "f:p": {}}}, "editor": {"f:a": {}, "f:map": {"f:q": {}}}}


def test_a_removed_field_is_owned_by_nobody() -> None:
    first = after_update((), {}, {"a": "1", "b": 1}, node=NODE, manager=ONE, time="t1")
    second = after_update(first, {"a": "1", "b": 1}, {"b": 1}, node=NODE, manager=EDITOR, time="t2")
    assert [(entry.manager.name, entry.fields) for entry in second] == [("one", {"f:b": {}})]


def test_an_apply_that_changes_what_another_owns_is_refused_without_force() -> None:
    entries = (Entry(TWO, "t", {"f:a": {}, "f:ports": {'k:{"name":"p"}': {".": {}, "f:name": {}, "f:port": {}}}}),)
    live = {"a": "1", "ports": [{"name": "p", "port": 1}]}
    applied = {"a": "2", "ports": [{"name": "p", "port": 2}]}
    with pytest.raises(ApplyConflict) as refused:
        after_apply(entries, live, applied, node=NODE, manager=ONE, force=False)
    assert [conflict.field for conflict in refused.value.conflicts] == [".a", '.ports[name="p"].port']
    merged, owned, lost = after_apply(entries, live, applied, node=NODE, manager=ONE, force=True)
    managers = with_applied(entries, manager=ONE, fields=owned, lost=lost, time="t")
    assert merged == applied
    assert {entry.manager.name: entry.fields for entry in managers}["two"] == {
        "f:ports": {'k:{"name":"p"}': {".": {}, "f:name": {}}}
    }


def test_an_apply_with_the_value_that_is_there_shares_the_field() -> None:
    entries = (Entry(TWO, "t", {"f:a": {}}),)
    merged, owned, lost = after_apply(entries, {"a": "1"}, {"a": "1"}, node=NODE, manager=ONE, force=False)
    managers = with_applied(entries, manager=ONE, fields=owned, lost=lost, time="t")
    assert merged == {"a": "1"}
    assert [entry.fields for entry in managers] == [{"f:a": {}}, {"f:a": {}}]


def test_an_item_stays_while_another_manager_owns_a_field_of_it() -> None:
    item = 'k:{"name":"p"}'
    entries = (
        Entry(ONE, "t", {"f:ports": {item: {".": {}, "f:name": {}, "f:port": {}}}}),
        Entry(EDITOR, "t", {"f:ports": {item: {"f:port": {}}}}),
    )
    live = {"ports": [{"name": "p", "port": 3}], "b": 1}
    left, _, _ = after_apply(entries, live, {}, node=NODE, manager=ONE, force=False)
    assert left == live


def test_dropping_the_last_item_drops_the_list() -> None:
    entries = (Entry(ONE, "t", {"f:ports": {'k:{"name":"p"}': {".": {}, "f:name": {}}}}),)
    left, _, _ = after_apply(entries, {"ports": [{"name": "p"}], "b": 1}, {}, node=NODE, manager=ONE, force=False)
    assert left == {"b": 1}


@pytest.mark.parametrize(
    ("live", "applied", "merged"),
    [
        (["a"], ["b"], ["a", "b"]),
        (["a", "b", "c"], ["c", "a"], ["b", "c", "a"]),
        (["x", "a", "b"], ["n", "a"], ["x", "n", "a", "b"]),
        (["a", "b"], ["b", "n"], ["a", "b", "n"]),
    ],
)
def test_keyed_lists_keep_the_applied_order_and_the_place_of_the_rest(
    live: list[str], applied: list[str], merged: list[str]
) -> None:
    assert merge({"names": live}, {"names": applied}, NODE) == {"names": merged}


def test_atomic_values_are_replaced_and_owned_as_one() -> None:
    merged, owned, _ = after_apply((), {"whole": {"p": "1"}, "list": ["a"]}, {"whole": {"q": "2"}, "list": ["b"]},
                                   node=NODE, manager=ONE, force=True)  # fmt: skip
    assert merged == {"whole": {"q": "2"}, "list": ["b"]}
    assert owned == {"f:whole": {}, "f:list": {}}


def test_metadata_that_the_server_writes_is_owned_by_nobody() -> None:
    new = {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "uid": "u", "labels": {"l": "1"}}, "a": "1"}
    (entry,) = after_update((), {}, new, node=NODE, manager=ONE, time="t")
    assert entry.fields == {"f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:a": {}}


def test_many_updaters_are_joined_beyond_ten() -> None:
    entries: tuple[Entry, ...] = ()
    value: dict[str, Any] = {"map": {}}
    for number in range(14):
        new = {"map": {**value["map"], f"k{number:02}": "1"}}
        manager = Manager(name=f"m{number:02}", operation=UPDATE, api_version="v1")
        entries = after_update(entries, value, new, node=NODE, manager=manager, time=f"t{number:02}")
        value = new
    assert len(entries) == 10
    joined = next(entry for entry in entries if entry.manager.name == "ancient-changes")
    assert {"f:k00", "f:k01", "f:k02", "f:k03"} <= set(joined.fields["f:map"])


def test_entries_survive_being_written_and_read() -> None:
    status = Manager(name="ctl", operation=UPDATE, api_version="v1", subresource="status")
    entries = (Entry(status, "t1", {"f:status": {}}), Entry(ONE, "t2", {"f:a": {}}))
    rendered = render_entries(entries)
    assert [entry["operation"] for entry in rendered] == ["Apply", "Update"]
    assert rendered[1]["subresource"] == "status"
    assert sorted(entry.manager.name for entry in parse_entries(rendered) or ()) == ["ctl", "one"]
    assert parse_entries([{"operation": "Nonsense"}]) is None
    assert parse_entries("text") is None


def test_paths_are_described_as_kubernetes_does() -> None:
    assert describe(("f:spec", 'k:{"name":"a","port":1}', "f:x")) == '.spec[name="a",port=1].x'
    assert describe(("f:finalizers", 'v:"a.b/c"')) == '.finalizers[="a.b/c"]'


def test_a_branch_can_be_cut_off() -> None:
    fields = {"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}
    assert without_branch(fields, "f:a", "f:b") == {"f:a": {".": {}, "f:c": {}}, "f:d": {}}
    assert without_branch(fields, "f:a") == {"f:d": {}}


def test_removal_leaves_what_is_kept_below() -> None:
    value = {"deep": {"x": "1", "y": "2"}}
    assert remove(value, {"f:deep": {"f:x": {}, "f:y": {}}}, {"f:deep": {"f:y": {}}}, NODE) == {"deep": {"y": "2"}}
