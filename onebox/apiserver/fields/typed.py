"""Objects walked along a schema (pure): which fields are set, which differ, how two are merged, what removal leaves.

Where a schema says nothing, objects are walked field by field and lists are one value, as Kubernetes deduces it.
"""

from __future__ import annotations

from typing import Any

import orjson

from controller.api.structural import Node
from controller.api.structural.node import ANYTHING
from controller.api.structural.objects import key_value
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.fields.sets import SELF, FieldSet, FieldView, below, is_member, union, with_self

MISSING: Any = object()
"""No value at all, as opposed to null."""


def part_of(node: Node, name: str) -> Node:
    """The schema of one field of an object."""
    return node.properties.get(name) or node.additional or ANYTHING


def item_of(node: Node) -> Node:
    return node.items or ANYTHING


def element_of(item: Any, node: Node) -> str:
    """The path element of an item of a keyed list."""
    if node.list_type == "set":
        return "v:" + orjson.dumps(item).decode()
    keys = {key: value for key in node.map_keys if (value := key_value(item, key, node)) is not None}
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


def elements(value: list[Any], node: Node) -> dict[str, Any] | None:
    """Items of a list by their path element; None where the list is one value: atomic, or with duplicates."""
    if node.list_type not in ("set", "map"):
        return None
    if node.list_type == "map" and not all(isinstance(item, dict) for item in value):
        return None
    found = {element_of(item, node): item for item in value}
    return found if len(found) == len(value) else None


def _is_walked(value: Any, node: Node) -> bool:
    return isinstance(value, dict) and not node.atomic


def fields_set(value: Any, node: Node) -> FieldSet:
    """The fields that an applied configuration mentions: leaves and items of keyed lists, not the objects around them."""
    if _is_walked(value, node):
        return {f"f:{name}": fields_set(inner, part_of(node, name)) for name, inner in value.items()}
    if isinstance(value, list) and value:
        items = elements(value, node)
        if items is not None:
            part = item_of(node)
            return {
                element: with_self(fields_set(item, part)) if isinstance(item, dict) else {}
                for element, item in items.items()
            }
    return {}


def all_fields(value: Any, node: Node) -> FieldSet:
    """Every field of a value that came or went as a whole, itself included."""
    children: FieldSet = {}
    if _is_walked(value, node):
        children = {f"f:{name}": all_fields(inner, part_of(node, name)) for name, inner in value.items()}
    elif isinstance(value, list):
        part = item_of(node)
        children = {element: all_fields(item, part) for element, item in (elements(value, node) or {}).items()}
    return with_self(children)


def compare(old: Any, new: Any, node: Node) -> tuple[FieldSet, FieldSet]:
    """Fields that were added or modified, and fields that were removed, on the way from one object to another."""
    changed, removed = _compare(old, new, node)
    return below(changed or {}), below(removed or {})


def _compare(old: Any, new: Any, node: Node) -> tuple[FieldSet | None, FieldSet | None]:
    if old is MISSING:
        return all_fields(new, node), None
    if new is MISSING:
        return None, all_fields(old, node)
    if old == new:
        return None, None
    if isinstance(new, dict | list) and old is None:
        old = type(new)()
    if _is_walked(old, node) and _is_walked(new, node):
        names = [*old, *(name for name in new if name not in old)]
        pairs = [(f"f:{name}", old.get(name, MISSING), new.get(name, MISSING), part_of(node, name)) for name in names]
        return _collect(pairs)
    if isinstance(old, list) and isinstance(new, list):
        before, after = elements(old, node), elements(new, node)
        if before is not None and after is not None:
            part = item_of(node)
            keys = [*before, *(key for key in after if key not in before)]
            return _collect([(key, before.get(key, MISSING), after.get(key, MISSING), part) for key in keys])
        return {}, None
    gone = below(all_fields(old, node))
    return {}, gone or None


def _collect(pairs: list[tuple[str, Any, Any, Node]]) -> tuple[FieldSet | None, FieldSet | None]:
    changed: FieldSet = {}
    removed: FieldSet = {}
    for key, old, new, part in pairs:
        inner_changed, inner_removed = _compare(old, new, part)
        if inner_changed is not None:
            changed[key] = inner_changed
        if inner_removed is not None:
            removed[key] = inner_removed
    return changed or None, removed or None


def merge(live: Any, applied: Any, node: Node) -> Any:
    """`live` with what `applied` says; keyed lists item by item. Neither is changed, parts of both are shared."""
    if live is MISSING or live is None:
        return applied
    if _is_walked(live, node) and _is_walked(applied, node):
        out = dict(live)
        for name, value in applied.items():
            out[name] = merge(live.get(name, MISSING), value, part_of(node, name))
        return out
    if isinstance(live, list) and isinstance(applied, list):
        before, after = elements(live, node), elements(applied, node)
        if before is not None and after is not None:
            return _merge_items(before, after, item_of(node))
    return applied


def _merge_items(live: dict[str, Any], applied: dict[str, Any], node: Node) -> list[Any]:
    """Items in the order of `applied`. Those that only `live` has keep their place before the next item of both."""
    out: list[Any] = []
    waiting = list(live)
    for key, item in applied.items():
        if key in waiting:
            position = waiting.index(key)
            out += [live[other] for other in waiting[:position] if other not in applied]
            waiting = waiting[position + 1 :]
        elif key not in live:
            while waiting and waiting[0] not in applied:
                out.append(live[waiting.pop(0)])
        out.append(merge(live.get(key, MISSING), item, node))
    out += [live[other] for other in waiting if other not in applied]
    return out


def remove(value: Any, gone: FieldView, kept: FieldView, node: Node) -> Any:
    """`value` without the fields `gone`, unless somebody in `kept` owns them or something below them."""
    if _is_walked(value, node):
        return _remove_fields(value, gone, kept, node)
    if isinstance(value, list):
        items = elements(value, node)
        if items is not None:
            return _remove_items(items, gone, kept, node)
    return value


def _remove_fields(value: JsonView, gone: FieldView, kept: FieldView, node: Node) -> JsonObject:
    out = dict(value)
    for key, inner in gone.items():
        name = key[2:]
        if key == SELF or name not in out:
            continue
        owned = kept.get(key)
        if owned is None and is_member(inner):
            del out[name]
            continue
        out[name] = remove(out[name], below(inner), below(owned or {}), part_of(node, name))
        if owned is None and out[name] in ({}, []):
            del out[name]
    return out


def _remove_items(items: dict[str, Any], gone: FieldView, kept: FieldView, node: Node) -> list[Any]:
    out: list[Any] = []
    for key, item in items.items():
        if key not in gone:
            out.append(item)
            continue
        inner, owned = gone[key], kept.get(key)
        if owned is None and is_member(inner):
            continue
        # An item cannot stay without its keys, whoever owned them.
        keys: FieldSet = {f"f:{name}": {} for name in node.map_keys}
        out.append(remove(item, below(inner), union(below(owned or {}), keys), item_of(node)))
    return out
