"""Structural schemas: what is pruned, defaulted, refused, and in which words."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.structural import NodePool, StructuralSchema
from controller.api.structural.messages import field_path

GIZMO = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["color"],
            "properties": {
                "color": {"type": "string", "enum": ["red", "green"]},
                "low": {"type": "integer", "default": 0, "minimum": 0},
                "high": {"type": "integer", "default": 10, "maximum": 100},
                "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
                "name": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
                "tags": {"type": "array", "maxItems": 3, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "protocol"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "protocol": {"type": "string", "default": "TCP"},
                            "port": {"type": "integer", "default": 80},
                        },
                    },
                },
                "extra": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"known": {"type": "object", "properties": {"a": {"type": "integer"}}}},
                },
                "size": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "when": {"type": "string", "format": "date-time"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "maybe": {"type": "string", "nullable": True, "default": "x"},
                "template": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {}},
                "one": {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def gizmo() -> StructuralSchema:
    return StructuralSchema.compile(GIZMO)


def _object(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Gizmo", "metadata": {"name": "g"}, "spec": {"color": "red", **spec}}


def _wrong(field: str, found: str, wanted: str) -> str:
    return f'Invalid value: "{found}": {field} in body must be of type {wanted}: "{found}"'


def _unfit(field: str, value: str, rule: str) -> str:
    return f"Invalid value: {value}: {field} in body {rule}"


@pytest.mark.parametrize(
    ("spec", "field", "message", "cause"),
    [
        ({"color": "pink"}, "spec.color", 'Unsupported value: "pink": supported values: "red", "green"', "NotSupported"),
        ({"low": -1}, "spec.low", "Invalid value: -1: spec.low in body should be greater than or equal to 0", "Invalid"),
        ({"high": 101}, "spec.high", "Invalid value: 101: spec.high in body should be less than or equal to 100", "Invalid"),
        ({"ratio": 0}, "spec.ratio", "Invalid value: 0: spec.ratio in body should be greater than 0", "Invalid"),
        ({"low": "a"}, "spec.low", _wrong("spec.low", "string", "integer"), "TypeInvalid"),
        ({"low": None}, "spec.low", _wrong("spec.low", "null", "integer"), "TypeInvalid"),
        ({"low": 1.5}, "spec.low", _wrong("spec.low", "number", "integer"), "TypeInvalid"),
        ({"name": "TOOLONG"}, "spec.name", "Too long: may not be more than 5 bytes", "TooLong"),
        ({"name": "a"}, "spec.name", 'Invalid value: "a": spec.name in body should be at least 2 chars long', "Invalid"),
        ({"name": "AB"}, "spec.name", 'Invalid value: "AB": spec.name in body should match \'^[a-z]+$\'', "Invalid"),
        ({"tags": ["a", "b", "c", "d"]}, "spec.tags", "Too many: 4: must have at most 3 items", "TooMany"),
        ({"tags": ["a", "a"]}, "spec.tags[1]", 'Duplicate value: "a"', "Duplicate"),
        ({"ports": [{"port": 1}]}, "spec.ports[0].name", "Required value", "Required"),
        ({"size": True}, "spec.size", _wrong("spec.size", "boolean", "integer,string"), "TypeInvalid"),
        ({"when": "soon"}, "spec.when", _wrong("spec.when", "soon", "date-time"), "TypeInvalid"),
        ({"labels": {"a": 1}}, "spec.labels.a", _wrong("spec.labels.a", "integer", "string"), "TypeInvalid"),
        ({"template": {"kind": "Pod"}}, "spec.template.apiVersion", "Required value", "Required"),
        ({"one": {}}, "spec.one", _unfit("spec.one", "{}", "must validate one and only one schema (oneOf)"), "Invalid"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_in_kubernetes_words(
    gizmo: StructuralSchema, spec: dict[str, Any], field: str, message: str, cause: str
) -> None:
    errors = gizmo.validate(_object(**spec))
    assert (field, message, f"FieldValue{cause}") in [(error.field, error.message, error.cause) for error in errors]


def test_a_missing_field_is_required_by_its_own_path(gizmo: StructuralSchema) -> None:
    (error,) = gizmo.validate({"spec": {}})
    assert (error.field, error.message, error.cause) == ("spec.color", "Required value", "FieldValueRequired")


def test_a_correct_object_has_no_errors(gizmo: StructuralSchema) -> None:
    good = _object(size="50%", when="2026-01-01T00:00:00Z", maybe=None, tags=["a"], ports=[{"name": "h"}], one={"a": 1})
    assert gizmo.validate(good) == ()
    assert gizmo.validate(_object(size=3, low=1, ratio=0.5)) == ()


def test_items_of_a_map_list_are_the_same_by_their_keys_with_defaults_counted(gizmo: StructuralSchema) -> None:
    ports = [{"name": "a"}, {"name": "a", "protocol": "UDP"}, {"name": "a", "protocol": "TCP"}]
    (error,) = gizmo.validate(_object(ports=ports))
    assert error.field == "spec.ports[2]"
    assert error.message == 'Duplicate value: {"name":"a","protocol":"TCP"}'


def test_unknown_fields_are_removed_and_named_where_nothing_preserves_them(gizmo: StructuralSchema) -> None:
    value = _object(
        bogus=1,
        ports=[{"name": "a", "wrong": {}}],
        extra={"kept": {"deep": 1}, "known": {"a": 1, "b": 2}},
        template={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}},
        labels={"any": "thing"},
    )
    removed = gizmo.prune(value)
    assert set(removed) == {"spec.bogus", "spec.ports[0].wrong", "spec.extra.known.b", "spec.template.spec"}
    assert value["spec"]["extra"] == {"kept": {"deep": 1}, "known": {"a": 1}}
    assert value["spec"]["labels"] == {"any": "thing"}
    assert set(value["spec"]["template"]) == {"apiVersion", "kind", "metadata"}


def test_defaults_fill_gaps_and_forbidden_nulls_but_not_what_is_said(gizmo: StructuralSchema) -> None:
    value = _object(low=None, high=7, maybe=None, ports=[{"name": "a"}])
    gizmo.default(value)
    assert value["spec"]["low"] == 0
    assert value["spec"]["high"] == 7
    assert value["spec"]["maybe"] is None
    assert value["spec"]["ports"] == [{"name": "a", "protocol": "TCP", "port": 80}]
    empty: dict[str, Any] = {}
    gizmo.default(empty)
    assert empty == {}


def test_a_default_is_copied_for_each_object() -> None:
    schema = StructuralSchema.compile({"type": "object", "properties": {"spec": {"type": "object", "default": {}}}})
    one: dict[str, Any] = {}
    schema.default(one)
    one["spec"]["changed"] = True
    other: dict[str, Any] = {}
    schema.default(other)
    assert other == {"spec": {}}


def test_without_a_schema_everything_is_kept_and_accepted() -> None:
    schema = StructuralSchema.compile(None)
    value = {"apiVersion": "v1", "kind": "K", "anything": {"goes": [1]}}
    assert schema.prune(value) == ()
    assert schema.validate(value) == ()


def test_equal_subtrees_are_one_node() -> None:
    pool = NodePool()
    part = {"type": "object", "properties": {"a": {"type": "string"}}}
    node = pool.build({"type": "object", "properties": {"one": part, "two": dict(part)}})
    assert node.properties["one"] is node.properties["two"]


def test_references_are_followed_and_may_be_refined() -> None:
    pool = NodePool({"Leaf": {"type": "string"}})
    node = pool.build({"type": "object", "properties": {"a": {"$ref": "Leaf"}, "b": {"$ref": "Leaf", "default": "x"}}})
    assert node.properties["a"].types == ("string",)
    assert node.properties["b"].default == b'"x"'


def test_paths_read_like_kubernetes_paths() -> None:
    assert field_path(("spec", "ports", 2, "name")) == "spec.ports[2].name"
    assert field_path(()) == ""


DEFINITIONS = sorted(
    entry.name for entry in files("manifests").joinpath("crds").iterdir() if entry.name.endswith(".json")
)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_definition_that_ladle_ships_compiles(name: str) -> None:
    definition = orjson.loads(files("manifests").joinpath("crds", name).read_bytes())
    for version in definition["spec"]["versions"]:
        schema = StructuralSchema.compile(version["schema"]["openAPIV3Schema"])
        assert schema.validate({"apiVersion": "v", "kind": "k"}) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*list("abc"), "spec", "low"]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*GIZMO["properties"]["spec"]["properties"], "bogus"]), json_values))  # type: ignore[index]
def test_whatever_comes_pruning_twice_changes_nothing_more_and_nothing_breaks(spec: dict[str, Any]) -> None:
    schema = StructuralSchema.compile(GIZMO)
    value = {"apiVersion": "v1", "kind": "Gizmo", "spec": spec}
    schema.prune(value)
    schema.default(value)
    once = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    assert schema.prune(value) == ()
    schema.default(value)
    assert orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == once
    schema.validate(value)
