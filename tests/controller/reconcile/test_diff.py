from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.quantity import quantity_or_none
from controller.base.errors import UserError
from controller.kube.resources import CONFIG_MAPS
from controller.reconcile.diff import (
    Apply,
    Comparisons,
    Delete,
    Finalizers,
    Status,
    Tell,
    differs,
    merge_patch,
    plan_writes,
)
from controller.reconcile.plan import Child, Event, Plan

TRANSCRIPTS = Path(__file__).parents[3] / "../shared/golden/kubeapi/transcripts.json"
MANAGER = "ladle"


def applied(spec: dict[str, Any], fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object that this manager applied, as a server returns it."""
    entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": fields}}
    return {
        "apiVersion": "x/v1",
        "kind": "X",
        "metadata": {"name": "x", "uid": "1", "managedFields": [entry]},
        "spec": spec,
        **more,
    }


def wanted(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec}


@pytest.mark.parametrize(
    ("why", "desired", "live", "fields", "expected"),
    [
        ("equal", {"a": 1}, {"a": 1}, {"f:a": {}}, False),
        ("another value", {"a": 2}, {"a": 1}, {"f:a": {}}, True),
        ("missing", {"a": 1, "b": 1}, {"a": 1}, {"f:a": {}}, True),
        ("a default of the server", {"a": 1}, {"a": 1, "b": 5}, {"f:a": {}}, False),
        ("no longer wanted but ours", {"a": 1}, {"a": 1, "b": 5}, {"f:a": {}, "f:b": {}}, True),
        ("a whole part no longer wanted", {"a": 1}, {"a": 1, "b": {"c": 1}}, {"f:a": {}, "f:b": {"f:c": {}}}, True),
        ("an emptied part", {"a": {}}, {"a": {"b": 1}}, {"f:a": {"f:b": {}}}, True),
        ("empty is as good as missing", {"a": {}, "b": [], "c": None}, {}, {}, False),
        ("booleans are not numbers", {"a": True}, {"a": 1}, {"f:a": {}}, True),
        ("a number in another form", {"a": 1.0}, {"a": 1}, {"f:a": {}}, False),
        ("an atomic map with a key too many", {"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, {"f:a": {}}, True),
        (
            "a quantity in canonical form",
            {"limits": {"cpu": "1000m"}},
            {"limits": {"cpu": "1"}},
            {"f:limits": {"f:cpu": {}}},
            False,
        ),
        ("another quantity", {"limits": {"cpu": "900m"}}, {"limits": {"cpu": "1"}}, {"f:limits": {"f:cpu": {}}}, True),
        ("not a quantity but text", {"cpu": "1000m"}, {"cpu": "1"}, {"f:cpu": {}}, True),
        ("an atomic list in another order", {"l": [1, 2]}, {"l": [2, 1]}, {"f:l": {}}, True),
        ("an atomic list that is longer", {"l": [{"a": 1}]}, {"l": [{"a": 1}, {"a": 2}]}, {"f:l": {}}, True),
        (
            "an atomic list, an item with a field too many",
            {"l": [{"a": 1}]},
            {"l": [{"a": 1, "b": 2}]},
            {"f:l": {}},
            True,
        ),
        (
            "an atomic list, an item with a known default",
            {"l": [{"a": 1}]},
            {"l": [{"a": 1, "resources": {}, "readinessProbe": {"successThreshold": 1, "tcpSocket": {"port": 0}}}]},
            {"f:l": {}},
            False,
        ),
        (
            "a set in another order",
            {"l": ["a", "b"]},
            {"l": ["b", "a", "c"]},
            {"f:l": {'v:"a"': {}, 'v:"b"': {}}},
            False,
        ),
        (
            "a set with a value of ours too many",
            {"l": ["a"]},
            {"l": ["b", "a"]},
            {"f:l": {'v:"a"': {}, 'v:"b"': {}}},
            True,
        ),
    ],
)
def test_differences(
    why: str, desired: dict[str, Any], live: dict[str, Any], fields: dict[str, Any], expected: bool
) -> None:
    assert differs(wanted(desired), applied(live, fields), field_manager=MANAGER) is expected, why


_OWNED: dict[str, Any] = {".": {}, "f:port": {}, "f:name": {}}


def owned_ports(numbers: Iterable[int]) -> dict[str, Any]:
    return {"f:ports": {f'k:{{"port":{number},"protocol":"TCP"}}': _OWNED for number in numbers}}


@pytest.mark.parametrize(
    ("why", "desired", "live", "expected"),
    [
        (
            "another's item beside ours",
            [{"port": 80, "name": "a"}],
            [{"port": 1}, {"port": 80, "name": "a", "protocol": "TCP"}],
            False,
        ),
        ("our item was changed", [{"port": 80, "name": "a"}], [{"port": 80, "name": "b", "protocol": "TCP"}], True),
        ("our item is gone", [{"port": 80, "name": "a"}], [], True),
        ("an item of ours is no longer wanted", [], [{"port": 80, "name": "a", "protocol": "TCP"}], True),
        (
            "a field of our item is no longer wanted",
            [{"port": 80}],
            [{"port": 80, "name": "a", "protocol": "TCP"}],
            True,
        ),
        (
            "a new item",
            [{"port": 80, "name": "a"}, {"port": 81}],
            [{"port": 80, "name": "a", "protocol": "TCP"}],
            True,
        ),
        (
            "items in another order",
            [{"port": 80, "name": "a"}, {"port": 443, "protocol": "TCP", "name": "b"}],
            [{"port": 443, "protocol": "TCP", "name": "b"}, {"port": 80, "protocol": "TCP", "name": "a"}],
            False,
        ),
        (
            "values changed places",
            [{"port": 80, "name": "a"}, {"port": 443, "name": "b"}],
            [{"port": 443, "protocol": "TCP", "name": "a"}, {"port": 80, "protocol": "TCP", "name": "b"}],
            True,
        ),
    ],
)
def test_lists_with_keys(why: str, desired: list[Any], live: list[Any], expected: bool) -> None:
    fields = owned_ports([80, *(port["port"] for port in live if port["port"] == 443)])
    assert differs(wanted({"ports": desired}), applied({"ports": live}, fields), field_manager=MANAGER) is expected, why


def test_an_object_applied_by_somebody_else_is_compared_by_value_alone() -> None:
    live = applied({"a": 1, "b": 2}, {"f:a": {}, "f:b": {}})
    assert not differs(wanted({"a": 1}), live, field_manager="other")
    assert differs(wanted({"a": 2}), live, field_manager="other")


def test_metadata_counts_and_status_and_names_do_not() -> None:
    live = applied({}, {}, status={"x": 1})
    live["metadata"]["labels"] = {"a": "1"}
    desired = wanted({})
    desired["metadata"]["labels"] = {"a": "1"}
    assert not differs({**desired, "status": {"x": 2}}, live, field_manager=MANAGER)
    desired["metadata"]["annotations"] = {"b": "1"}
    assert differs(desired, live, field_manager=MANAGER)


@pytest.mark.skipif(not TRANSCRIPTS.exists(), reason="the reference recordings are not on this machine")
def test_what_a_real_server_stored_for_an_apply_is_no_difference() -> None:
    recorded = [
        step for step in json.loads(TRANSCRIPTS.read_text()) if "apply-patch" in (step["request"]["contentType"] or "")
    ]
    checked = 0
    for step in recorded:
        if step["response"]["status"] >= 300:
            continue
        manager = step["request"]["path"].split("fieldManager=")[1].split("&")[0]
        assert not differs(step["request"]["body"], step["response"]["body"], field_manager=manager), step["title"]
        checked += 1
    assert checked >= 5


@pytest.mark.skipif(not TRANSCRIPTS.exists(), reason="the reference recordings are not on this machine")
def test_dropping_an_applied_field_is_a_difference_to_what_a_real_server_stored() -> None:
    step = next(step for step in json.loads(TRANSCRIPTS.read_text()) if step["title"] == "apply creates")
    body, live = step["request"]["body"], step["response"]["body"]
    for name in ("color", "ports", "lo"):
        spec = {key: value for key, value in body["spec"].items() if key != name}
        assert differs({**body, "spec": spec}, live, field_manager="one"), name


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("100m", 0.1),
        ("2Ki", 2048),
        ("1e3", 1000),
        ("1E", 10**18),
        ("0.5", 0.5),
        (2, 2),
        ("x", None),
        ("", None),
    ],
)
def test_quantities(text: Any, number: float | None) -> None:
    parsed = quantity_or_none(text)
    assert (None if parsed is None else float(parsed)) == number


JSON_OBJECTS = st.dictionaries(
    st.sampled_from("abcd"),
    st.recursive(
        st.integers(0, 3) | st.sampled_from("xyz"),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner),
        max_leaves=8,
    ),
)


def merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386, section 2."""
    result = dict(old)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = merged(result[name] if isinstance(result.get(name), dict) else {}, value)
        else:
            result[name] = value
    return result


@given(JSON_OBJECTS, JSON_OBJECTS)
def test_a_merge_patch_leads_from_old_to_new_and_is_empty_between_equals(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    patch = merge_patch(old, new)
    assert merged(old, patch) == new
    assert (patch == {}) == (old == new)


OWNER: dict[str, Any] = {
    "apiVersion": "x/v1",
    "kind": "X",
    "metadata": {"name": "x", "namespace": "ns", "uid": "owner", "resourceVersion": "7"},
    "status": {"ready": True},
}


def config_map(name: str, *, owner: str | None = "owner", **data: str) -> Child:
    references = [{"uid": owner, "controller": True}] if owner else []
    meta = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "ownerReferences": references}
    return Child(
        resource=CONFIG_MAPS, manifest={"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
    )


def test_a_quiet_world_needs_no_write_and_no_event() -> None:
    plan = Plan(
        children=(config_map("a", x="1"),),
        status={"ready": True},
        events=(Event(type="Normal", reason="R", message="m"),),
    )
    assert plan_writes(plan, OWNER, [config_map("a", x="1")], Comparisons(MANAGER)) == ()


def test_children_come_before_status_and_what_is_too_much_goes_last() -> None:
    plan = Plan(
        children=(config_map("a", x="2"), config_map("new")),
        status={"ready": False},
        events=(Event(type="Normal", reason="R", message="m"),),
    )
    writes = plan_writes(plan, OWNER, [config_map("a", x="1"), config_map("old")], Comparisons(MANAGER))
    assert [type(write) for write in writes] == [Apply, Apply, Status, Delete, Tell]
    assert writes[2] == Status({"status": {"ready": False}})
    assert writes[3] == Delete(CONFIG_MAPS, "old", "ns", "uid-old")


def test_keeping_children_touches_none() -> None:
    plan = Plan(children=(config_map("a"),), keep_children=True, status={"ready": False})
    assert plan_writes(plan, OWNER, [config_map("old")], Comparisons(MANAGER)) == (
        Status({"status": {"ready": False}}),
    )


def test_objects_that_nobody_or_somebody_else_controls_are_not_deleted() -> None:
    live = [config_map("free", owner=None), config_map("foreign", owner="else")]
    assert plan_writes(Plan(), OWNER, live, Comparisons(MANAGER)) == ()


def test_a_place_that_somebody_else_controls_is_an_error_that_names_it() -> None:
    with pytest.raises(UserError, match="ConfigMap ns/a exists"):
        plan_writes(Plan(children=(config_map("a"),)), OWNER, [config_map("a", owner="else")], Comparisons(MANAGER))


def test_a_child_that_is_being_deleted_is_neither_revived_nor_deleted_again() -> None:
    dying = config_map("a", x="1")
    meta = {**dying.manifest["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    live = [Child(resource=CONFIG_MAPS, manifest={**dying.manifest, "metadata": meta})]
    assert plan_writes(Plan(children=(config_map("a", x="2"),)), OWNER, live, Comparisons(MANAGER)) == ()
    assert plan_writes(Plan(), OWNER, live, Comparisons(MANAGER)) == ()


def test_an_owner_that_is_being_deleted_gets_no_children() -> None:
    meta = {**OWNER["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert plan_writes(Plan(children=(config_map("a"),)), {**OWNER, "metadata": meta}, [], Comparisons(MANAGER)) == ()


def test_a_finalizer_is_set_first_and_removed_last() -> None:
    plan = Plan(children=(config_map("a"),), finalizers=("f",))
    assert [type(write) for write in plan_writes(plan, OWNER, [], Comparisons(MANAGER))] == [Finalizers, Apply]
    owner = {**OWNER, "metadata": {**OWNER["metadata"], "finalizers": ["f"]}}
    plan = Plan(children=(config_map("a"),), finalizers=())
    assert plan_writes(plan, owner, [], Comparisons(MANAGER))[-1] == Finalizers((), "7")
    assert plan_writes(Plan(finalizers=("f",)), owner, [], Comparisons(MANAGER)) == ()


def test_a_child_that_was_found_equal_is_compared_again_when_either_side_changes() -> None:
    comparisons, live = Comparisons(MANAGER), applied({"a": 1}, {"f:a": {}})
    live["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    assert not comparisons.differ(wanted({"a": 1}), live)
    assert comparisons.differ(wanted({"a": 2}), live)
    changed = {**live, "metadata": {**live["metadata"], "resourceVersion": "2"}, "spec": {"a": 3}}
    assert comparisons.differ(wanted({"a": 1}), changed)
    assert comparisons.differ(wanted({"a": 1}), changed)  # A difference is not what is remembered.
    assert not comparisons.differ(wanted({"a": 1}), live)
