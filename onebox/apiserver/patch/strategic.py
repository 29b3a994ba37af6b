"""Strategic merge patch: a merge patch that merges lists by key, with directives.

Directives: `$patch: delete|replace|merge` in an object or an item, `$deleteFromPrimitiveList/<field>`,
`$setElementOrder/<field>`, `$retainKeys`. Which lists merge, and by which key, the kind's schema says.
"""

from __future__ import annotations

from typing import Any

from controller.api.structural import Node
from controller.api.structural.node import ANYTHING
from controller.base.json import JsonObject, JsonView

_PATCH, _RETAIN = "$patch", "$retainKeys"
_DELETE_ITEMS, _ORDER = "$deleteFromPrimitiveList/", "$setElementOrder/"


def strategic_merge(target: Any, patch: Any, node: Node) -> Any:
    """`target` with the patch; `target` stays as it is."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.get(_PATCH)
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != _PATCH}
    if directive == "delete":
        return {}
    return _merge_object(target if isinstance(target, dict) else {}, patch, node)


def _merge_object(target: JsonView, patch: JsonView, node: Node) -> JsonObject:
    out = dict(target)
    retained = patch.get(_RETAIN)
    if isinstance(retained, list):
        out = {name: value for name, value in out.items() if name in retained}
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            out.pop(name, None)
            continue
        part = node.properties.get(name) or node.additional or ANYTHING
        if isinstance(value, list):
            out[name] = _merge_list(out.get(name), value, part)
        else:
            out[name] = strategic_merge(out.get(name), value, part)
    _delete_items(out, patch)
    _set_order(out, patch, node)
    return out


def _merge_list(target: Any, patch: list[Any], node: Node) -> list[Any]:
    if any(isinstance(item, dict) and item.get(_PATCH) == "replace" for item in patch):
        return [
            item for item in patch if not (isinstance(item, dict) and item.get(_PATCH) == "replace" and len(item) == 1)
        ]
    if not isinstance(target, list) or "merge" not in node.merge_strategy:
        return [_without_directives(item) for item in patch if not _deletes(item)]
    if node.merge_key is None:
        return [*target, *(item for item in patch if item not in target)]
    return _merge_keyed(target, patch, node.merge_key, node.items or ANYTHING)


def _merge_keyed(target: list[Any], patch: list[Any], key: str, node: Node) -> list[Any]:
    out = list(target)
    for item in patch:
        wanted = item.get(key) if isinstance(item, dict) else None
        position = next(
            (at for at, other in enumerate(out) if isinstance(other, dict) and other.get(key) == wanted), None
        )
        if _deletes(item):
            if position is not None:
                del out[position]
        elif position is None:
            out.append(strategic_merge({}, item, node))
        else:
            out[position] = strategic_merge(out[position], item, node)
    return out


def _deletes(item: Any) -> bool:
    return isinstance(item, dict) and item.get(_PATCH) == "delete"


def _without_directives(item: Any) -> Any:
    if isinstance(item, dict):
        return {name: _without_directives(value) for name, value in item.items() if not name.startswith("$")}
    return item


def _delete_items(out: JsonObject, patch: JsonView) -> None:
    for name, values in patch.items():
        if name.startswith(_DELETE_ITEMS):
            field = name.removeprefix(_DELETE_ITEMS)
            out[field] = [item for item in out.get(field) or [] if item not in values]


def _set_order(out: JsonObject, patch: JsonView, node: Node) -> None:
    for name, order in patch.items():
        field = name.removeprefix(_ORDER)
        listed = out.get(field)
        if not name.startswith(_ORDER) or not isinstance(listed, list):
            continue
        part = node.properties.get(field) or ANYTHING
        out[field] = _ordered(listed, order, part.merge_key)


def _ordered(items: list[Any], order: list[Any], key: str | None) -> list[Any]:
    """Items in the given order; those that it does not name keep their place behind their predecessor."""

    def identity(item: Any) -> Any:
        return item.get(key) if key is not None and isinstance(item, dict) else item

    rank = {_hashable(identity(item)): position for position, item in enumerate(order)}
    ranked: list[tuple[int, int, Any]] = []
    last = -1
    for position, item in enumerate(items):
        last = rank.get(_hashable(identity(item)), last)
        ranked.append((last, position, item))
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])]


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
