"""From nodes to a JSON schema document for jsonschema-rs (draft 7), with each shared node as one definition.

Kubernetes writes OpenAPI 3.0: exclusive bounds are booleans, `nullable` is a keyword, and int-or-string an extension.
"""

from __future__ import annotations

import re
from typing import Any

from controller.api.structural.node import Node
from controller.base.json import JsonObject, JsonView

FORMATS = frozenset(
    [
        "date",
        "date-time",
        "email",
        "hostname",
        "idn-email",
        "ipv4",
        "ipv6",
        "uri",
        "uuid",
        "byte",
        "cidr",
        "mac",
        "duration",
    ]
)
"""String formats that Kubernetes checks, as far as they occur in the kinds at hand; others mean nothing to it either."""

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d([Tt]|\s)\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)?")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_CIDR = re.compile(r"[0-9a-fA-F.:]+/\d{1,3}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_DURATION = re.compile(r"([+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d|w))+|0")

CHECKS = {
    "date-time": lambda text: _DATE_TIME.fullmatch(text) is not None,
    "byte": lambda text: _BASE64.fullmatch(text) is not None,
    "cidr": lambda text: _CIDR.fullmatch(text) is not None,
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
}
"""Formats whose meaning in Kubernetes differs from JSON schema's."""


def build_json_schema(root: Node) -> JsonObject:
    """The whole document for `root`; `metadata` of a resource is left out, for it is checked apart."""
    document = _Document()
    schema = document.render(root)
    return {**schema, "definitions": document.definitions}


class _Document:
    def __init__(self) -> None:
        self.definitions: dict[str, JsonObject] = {}
        self._names: dict[int, str] = {}

    def refer(self, node: Node) -> JsonObject:
        if not node.properties and node.items is None and node.additional is None and len(node.rules or ()) < 2:
            return self.render(node)
        name = self._names.get(id(node))
        if name is None:
            name = self._names[id(node)] = f"n{len(self._names)}"
            self.definitions[name] = self.render(node)
        return {"$ref": f"#/definitions/{name}"}

    def render(self, node: Node) -> JsonObject:
        schema: JsonObject = _value_rules(node.rules or {})
        if node.types:
            types = [*node.types, "null"] if node.nullable else list(node.types)
            schema["type"] = types[0] if len(types) == 1 else types
        if node.properties:
            schema["properties"] = {name: self.refer(part) for name, part in node.properties.items()}
        if node.additional is not None:
            schema["additionalProperties"] = self.refer(node.additional)
        if node.items is not None:
            schema["items"] = self.refer(node.items)
        if node.embedded_resource:
            schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind"})
        return schema


def _value_rules(rules: JsonView) -> JsonObject:
    """Constraints of OpenAPI 3.0 in the words of draft 7, nested ones included."""
    out: JsonObject = {}
    for name, value in rules.items():
        if name == "format" and value not in FORMATS:
            continue
        if name in ("allOf", "anyOf", "oneOf"):
            out[name] = [_nested(part) for part in value]
        elif name == "not":
            out[name] = _nested(value)
        elif name not in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            out[name] = value
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if bound in rules:
            out[exclusive if rules.get(exclusive) else bound] = rules[bound]
    return out


def _nested(schema: JsonView) -> JsonObject:
    out = _value_rules(schema)
    if isinstance(schema.get("type"), str):
        out["type"] = schema["type"]
    for name in ("properties", "additionalProperties", "items"):
        part: Any = schema.get(name)
        if isinstance(part, dict):
            out[name] = {key: _nested(value) for key, value in part.items()} if name == "properties" else _nested(part)
    return out
