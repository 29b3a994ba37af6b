"""Walks objects along a schema: prunes what is unknown, fills in defaults, finds duplicates in keyed lists.

Pruning and defaulting change the object in place: the API server calls them on what it has just parsed, and a copy of every
pod would double the cost of a write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from controller.api.structural.messages import field_path
from controller.api.structural.node import Node
from controller.base.errors import FieldError
from controller.base.json import JsonObject

Steps = list[str | int]
_EMBEDDED_META = ("apiVersion", "kind", "metadata")


def prune(value: Any, node: Node) -> list[Steps]:
    """Removes fields that the schema does not name; returns their paths, innermost step first."""
    if isinstance(value, dict):
        return _prune_object(value, node)
    if isinstance(value, list) and node.items is not None:
        return _prune_list(value, node.items)
    return []


def _prune_object(value: JsonObject, node: Node) -> list[Steps]:
    removed: list[Steps] = []
    properties, additional = node.properties, node.additional
    keep = node.preserve_unknown or not node.types
    for name in list(value):
        part = properties.get(name) or additional
        if part is not None:
            inner = value[name]
            if isinstance(inner, dict | list):
                for steps in prune(inner, part):
                    steps.append(name)
                    removed.append(steps)
        elif not keep and not (node.embedded_resource and name in _EMBEDDED_META):
            del value[name]
            removed.append([name])
    return removed


def _prune_list(value: list[Any], node: Node) -> list[Steps]:
    removed: list[Steps] = []
    for index, item in enumerate(value):
        if isinstance(item, dict | list):
            for steps in prune(item, node):
                steps.append(index)
                removed.append(steps)
    return removed


def apply_defaults(value: Any, node: Node) -> None:
    """Fills in defaults below `value`; a null where null is not allowed counts as absent if there is a default."""
    if not node.has_defaults:
        return
    if isinstance(value, dict):
        _default_object(value, node)
    elif isinstance(value, list) and node.items is not None:
        for item in value:
            apply_defaults(item, node.items)


def _default_object(value: JsonObject, node: Node) -> None:
    properties, additional = node.properties, node.additional
    for name, part in properties.items():
        if part.default is not None and (name not in value or (value[name] is None and not part.nullable)):
            value[name] = orjson.loads(part.default)
        if part.has_defaults and name in value:
            apply_defaults(value[name], part)
    if additional is not None:
        for name, inner in value.items():
            if name not in properties:
                if inner is None and additional.default is not None and not additional.nullable:
                    value[name] = orjson.loads(additional.default)
                apply_defaults(value[name], additional)


def duplicates(value: Any, node: Node, path: Sequence[str | int] = ()) -> Iterator[FieldError]:
    """Items that occur twice in a list of type set, or whose keys do in a list of type map."""
    if not node.has_keyed_lists:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            part = node.properties.get(name) or node.additional
            if part is not None:
                yield from duplicates(inner, part, (*path, name))
    elif isinstance(value, list) and node.items is not None:
        yield from _duplicates_of_list(value, node, path)
        for index, item in enumerate(value):
            yield from duplicates(item, node.items, (*path, index))


def _duplicates_of_list(value: list[Any], node: Node, path: Sequence[str | int]) -> Iterator[FieldError]:
    if node.list_type == "atomic":
        return
    seen: set[bytes] = set()
    for index, item in enumerate(value):
        identity = item_identity(item, node)
        encoded = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        if encoded in seen:
            yield FieldError(
                field=field_path((*path, index)),
                message=f"Duplicate value: {encoded.decode()}",
                cause="FieldValueDuplicate",
            )
        seen.add(encoded)


def item_identity(item: Any, node: Node) -> Any:
    """What tells this item of a keyed list apart: the item itself in a set, the values of its keys in a map."""
    if node.list_type == "set" or not isinstance(item, dict):
        return item
    return {key: key_value(item, key, node) for key in node.map_keys if key_value(item, key, node) is not None}


def key_value(item: JsonObject, key: str, node: Node) -> Any:
    """The value of one key of an item, its default where the item leaves it out."""
    if key in item:
        return item[key]
    part = node.items.properties.get(key) if node.items is not None else None
    return orjson.loads(part.default) if part is not None and part.default is not None else None
