"""One version of one kind, compiled: what the API server, the CLI and the admission webhook ask about an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from controller.api.structural.node import Node, NodePool, Shape
from controller.api.structural.objects import apply_defaults, duplicates, prune
from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView

if TYPE_CHECKING:
    import jsonschema_rs

_META_FIELDS = ("apiVersion", "kind", "metadata")


class StructuralSchema:
    """A kind's schema. The validator is compiled with the first object that needs it (4 ms for an InferenceService)."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self._validator: jsonschema_rs.Draft7Validator | None = None

    @classmethod
    def compile(
        cls, schema: JsonView | None, *, pool: NodePool | None = None, meta: Node | None = None
    ) -> StructuralSchema:
        """The compiled form of `openAPIV3Schema`; None accepts and keeps everything.

        `meta` is the node of ObjectMeta, which a CRD's schema leaves open. Kinds that are compiled with one pool share memory.
        """
        pool = pool or NodePool()
        described = dict(schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
        declared = described.get("properties") or {}
        strings = {name: declared.get(name) or {"type": "string"} for name in ("apiVersion", "kind")}
        own = {name: part for name, part in declared.items() if name != "metadata"}
        root = pool.build({**described, "type": "object", "properties": {**own, **strings}})
        return cls(_with_meta(root, meta or Node(Shape.OBJECT, ("object",), properties={}, preserve_unknown=True)))

    @classmethod
    def of_node(cls, root: Node, *, meta: Node) -> StructuralSchema:
        """The schema of a kind whose node is built already."""
        return cls(_with_meta(root, meta))

    def validate(self, value: JsonView) -> tuple[FieldError, ...]:
        """All that is wrong with the object, in Kubernetes' words; `metadata` is not looked at."""
        checked = self._violations(value)
        return (*checked, *duplicates(value, self.root))

    def prune(self, value: JsonObject) -> tuple[str, ...]:
        """Removes unknown fields in place; returns their paths (`spec.bogus`, `spec.containers[0].bogus`)."""
        from controller.api.structural.messages import field_path

        return tuple(field_path(steps[::-1]) for steps in prune(value, self.root))

    def default(self, value: JsonObject) -> None:
        """Fills in defaults in place."""
        apply_defaults(value, self.root)

    def _violations(self, value: JsonView) -> tuple[FieldError, ...]:
        if self._validator is None:
            self._validator = _compile_validator(self.root)
        if self._validator.is_valid(value):
            return ()
        from controller.api.structural.messages import field_errors

        return field_errors(self._validator.iter_errors(value))


def _with_meta(root: Node, meta: Node) -> Node:
    properties = {**root.properties, "metadata": meta}
    changes: dict[str, Any] = {name: getattr(root, name) for name in Node.__slots__ if name != "properties"}
    changes["has_keyed_lists"] = root.has_keyed_lists or meta.has_keyed_lists
    return Node(properties=properties, **changes)


def _compile_validator(root: Node) -> jsonschema_rs.Draft7Validator:
    # Imported here: a server that only reads and lists never pays its 8 MB.
    import jsonschema_rs

    from controller.api.structural.rules import CHECKS, build_json_schema

    formats: dict[str, Callable[[str], bool]] = dict(CHECKS)
    document = build_json_schema(root)
    document["properties"].pop("metadata", None)
    return jsonschema_rs.Draft7Validator(
        document, validate_formats=True, formats=formats, pattern_options=jsonschema_rs.RegexOptions()
    )
