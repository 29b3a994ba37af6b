"""Merge patches and strategic merge patches, by example."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.structural import NodePool
from onebox.apiserver.patch.json_patch import BadPatch, json_patch
from onebox.apiserver.patch.merge import merge_patch
from onebox.apiserver.patch.strategic import strategic_merge
from onebox.apiserver.resources.builtin import BuiltinSchemas

POD = BuiltinSchemas().schemas_of("Pod").structural.root
DEPLOYMENT = BuiltinSchemas().schemas_of("Deployment").structural.root
OPEN = NodePool().build({"type": "object", "x-kubernetes-preserve-unknown-fields": True})


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [  # The table of RFC 7386, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(target: Any, patch: Any, wanted: Any) -> None:
    assert merge_patch(target, patch) == wanted


def test_a_json_patch_copies_and_refuses_what_cannot_be_done() -> None:
    target = {"a": {"b": 1}}
    assert json_patch(target, [{"op": "add", "path": "/a/c", "value": 2}]) == {"a": {"b": 1, "c": 2}}
    assert target == {"a": {"b": 1}}
    for patch in (
        [{"op": "test", "path": "/a/b", "value": 2}],
        [{"op": "remove", "path": "/none"}],
        [{"op": "frobnicate", "path": "/a"}],
        [{"path": "/a"}],
        ["nonsense"],
    ):
        with pytest.raises(BadPatch):
            json_patch(target, patch)


def _pod(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def _names(pod: dict[str, Any], field: str = "containers") -> list[str]:
    return [item["name"] for item in pod["spec"][field]]


def test_containers_merge_by_name_and_their_env_too() -> None:
    pod = _pod(containers=[{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}])
    patch = _pod(containers=[{"name": "c", "env": [{"name": "B", "value": "2"}]}, {"name": "s", "image": "j"}])
    merged = strategic_merge(pod, patch, POD)
    assert merged["spec"]["containers"] == [
        {"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"name": "s", "image": "j"},
    ]
    assert pod["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]


def test_items_are_deleted_by_directive() -> None:
    pod = _pod(containers=[{"name": "c"}, {"name": "s"}])
    patch = _pod(containers=[{"name": "s", "$patch": "delete"}, {"name": "absent", "$patch": "delete"}])
    assert _names(strategic_merge(pod, patch, POD)) == ["c"]


def test_a_list_can_be_replaced_by_directive() -> None:
    pod = _pod(containers=[{"name": "c"}, {"name": "s"}])
    patch = _pod(containers=[{"$patch": "replace"}, {"name": "n"}])
    assert strategic_merge(pod, patch, POD)["spec"]["containers"] == [{"name": "n"}]


def test_an_object_can_be_replaced_or_deleted_by_directive() -> None:
    pod = _pod(securityContext={"runAsUser": 1, "fsGroup": 2})
    replaced = strategic_merge(pod, _pod(securityContext={"$patch": "replace", "runAsUser": 3}), POD)
    assert replaced["spec"]["securityContext"] == {"runAsUser": 3}
    assert strategic_merge(pod, _pod(securityContext={"$patch": "delete"}), POD)["spec"]["securityContext"] == {}


def test_lists_without_merge_key_are_replaced_but_finalizers_join() -> None:
    pod = {"metadata": {"finalizers": ["a/b"]}, **_pod(containers=[{"name": "c", "args": ["1"]}])}
    patch = {"metadata": {"finalizers": ["c/d"]}, **_pod(containers=[{"name": "c", "args": ["2", "3"]}])}
    merged = strategic_merge(pod, patch, POD)
    assert merged["spec"]["containers"][0]["args"] == ["2", "3"]
    assert merged["metadata"]["finalizers"] == ["a/b", "c/d"]
    removal = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}
    assert strategic_merge(merged, removal, POD)["metadata"]["finalizers"] == ["c/d"]


def test_the_order_of_items_can_be_set() -> None:
    pod = _pod(containers=[{"name": "a"}, {"name": "b"}, {"name": "c"}])
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [{"name": "c", "image": "x"}],
        }
    }
    assert _names(strategic_merge(pod, patch, POD)) == ["c", "a", "b"]


def test_retained_keys_are_all_that_stay_of_a_union() -> None:
    deployment = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge(deployment, patch, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_null_removes_and_maps_merge_where_no_schema_helps() -> None:
    assert strategic_merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}, OPEN) == {"a": {"c": 2, "d": 3}}
