"""Sets of field paths (pure), in the very form in which `fieldsV1` writes them, so that nothing has to be converted.

A set maps path elements (`f:name`, `k:{"name":"h"}`, `v:"a"`) to what is owned below them. An element that is owned itself
is `{}` where nothing below it is owned, and has a member "." beside the elements below it otherwise:

    {"f:spec": {".": {}, "f:color": {}}}      owns spec itself and spec.color
    {"f:spec": {"f:color": {}}}               owns spec.color only
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

FieldSet: TypeAlias = dict[str, Any]
FieldView: TypeAlias = Mapping[str, Any]
SELF = "."


def is_member(node: FieldView) -> bool:
    """The element that `node` belongs to is itself in the set."""
    return not node or SELF in node


def below(node: FieldView) -> FieldSet:
    """What the set holds below an element."""
    return {key: inner for key, inner in node.items() if key != SELF}


def with_self(children: FieldSet) -> FieldSet:
    """The node of an element that is itself in the set."""
    return {SELF: {}, **children} if children else {}


def union(left: FieldView, right: FieldView) -> FieldSet:
    """All paths of both."""
    out = dict(left)
    for key, inner in right.items():
        out[key] = _union_nodes(out[key], inner) if key in out else inner
    return out


def _union_nodes(left: FieldView, right: FieldView) -> FieldSet:
    children = union(below(left), below(right))
    return with_self(children) if is_member(left) or is_member(right) else children


def difference(left: FieldView, right: FieldView) -> FieldSet:
    """Paths of `left` that are not in `right`. A path does not take those below it along."""
    out: FieldSet = {}
    for key, inner in left.items():
        if key == SELF:
            continue
        other = right.get(key)
        if other is None:
            out[key] = inner
            continue
        children = difference(below(inner), below(other))
        if is_member(inner) and not is_member(other):
            out[key] = with_self(children)
        elif children:
            out[key] = children
    return out


def intersection(left: FieldView, right: FieldView) -> FieldSet:
    """Paths that are in both."""
    out: FieldSet = {}
    for key, inner in left.items():
        other = right.get(key)
        if key == SELF or other is None:
            continue
        children = intersection(below(inner), below(other))
        if is_member(inner) and is_member(other):
            out[key] = with_self(children)
        elif children:
            out[key] = children
    return out


def without_branch(fields: FieldView, *path: str) -> FieldSet:
    """`fields` without the path and all below it."""
    if path[0] not in fields:
        return dict(fields)
    out = {key: inner for key, inner in fields.items() if key != path[0]}
    if len(path) > 1:
        inner = fields[path[0]]
        children = without_branch(below(inner), *path[1:])
        if is_member(inner):
            out[path[0]] = with_self(children)
        elif children:
            out[path[0]] = children
    return out


def paths(fields: FieldView, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of the set, parents before what is below them."""
    for key, inner in fields.items():
        if key == SELF:
            continue
        if is_member(inner):
            yield (*prefix, key)
        yield from paths(inner, (*prefix, key))


def describe(path: tuple[str, ...]) -> str:
    """A path as Kubernetes writes it in a conflict: `.spec.ports[name="a"].port`."""
    return "".join(_describe_element(element) for element in path)


def _describe_element(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "v":
        return f"[={rest}]"
    if kind == "i":
        return f"[{rest}]"
    import orjson

    keys = orjson.loads(rest)
    shown = ",".join(f"{key}={orjson.dumps(keys[key]).decode()}" for key in sorted(keys))
    return f"[{shown}]"
