"""Laying one spec over another."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.api.core import Container
from controller.inferenceservice.placeholders import render
from controller.inferenceservice.strategic_merge import merge, merge_containers
from tests.controller.inferenceservice.builders import service

ENV = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("ABC"), "value": st.sampled_from("123")}),
    unique_by=lambda item: item["name"],
)
CONTAINERS = st.fixed_dictionaries(
    {"name": st.just("c")},
    optional={"image": st.sampled_from(["a", "b"]), "args": st.lists(st.sampled_from("xy")), "env": ENV},
)


def merged(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    return merge_containers(Container.parse(lower), Container.parse(upper)).to_json()


def test_objects_merge_and_other_lists_are_replaced() -> None:
    lower = {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}, "command": ["a"]}
    assert merged(lower, {"resources": {"limits": {"cpu": "2"}}, "command": ["b"]}) == {
        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
        "command": ["b"],
    }


def test_lists_with_keys_merge_item_by_item_with_the_upper_first() -> None:
    lower = {"volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": True}, {"name": "b", "mountPath": "/b"}]}
    upper = {"volumeMounts": [{"name": "c", "mountPath": "/c"}, {"name": "x", "mountPath": "/a"}]}
    assert merged(lower, upper)["volumeMounts"] == [
        {"name": "c", "mountPath": "/c"},
        {"name": "x", "mountPath": "/a", "readOnly": True},
        {"name": "b", "mountPath": "/b"},
    ]


def test_empty_strings_replace_nothing() -> None:
    assert merged({"name": "kserve-container", "image": "a"}, {"name": "", "image": ""}) == {
        "name": "kserve-container",
        "image": "a",
    }


@given(CONTAINERS, CONTAINERS)
def test_the_upper_one_wins_and_nothing_of_the_lower_is_lost(lower: dict[str, Any], upper: dict[str, Any]) -> None:
    result = merged(lower, upper)
    assert result.get("args", []) == [*lower.get("args", []), *upper.get("args", [])]
    values = {item["name"]: item["value"] for item in result.get("env", [])}
    below = {item["name"]: item["value"] for item in lower.get("env", [])}
    above = {item["name"]: item["value"] for item in upper.get("env", [])}
    assert values == {**below, **above}
    assert len(values) == len(result.get("env", []))


@given(CONTAINERS)
def test_merging_something_over_itself_changes_nothing(container: dict[str, Any]) -> None:
    assert merge(container, container) == container


def test_placeholders_are_filled_in_at_any_depth_and_other_braces_stay() -> None:
    meta = service(meta={"labels": {"a": "b"}}).metadata
    value = {"x": ["{{.Name}}-{{ .Labels.a }}", 3, {"y": "{{.Namespace}}"}], "z": "{{ messages[0] }}", "n": None}
    assert render(value, meta) == {"x": ["iris-b", 3, {"y": "ns"}], "z": "{{ messages[0] }}", "n": None}
