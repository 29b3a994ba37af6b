"""The managers of an object (pure): what `metadata.managedFields` says, read, changed by a write, and written again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.api.structural import Node
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.fields.sets import (
    FieldSet,
    describe,
    difference,
    intersection,
    paths,
    union,
    without_branch,
)
from onebox.apiserver.fields.typed import compare, fields_set, merge, remove

APPLY, UPDATE = "Apply", "Update"
UPDATERS_MAX = 10
"""Entries of updating managers that are kept (kube-apiserver's limit); older ones are joined into one."""
ANCIENT = "ancient-changes"
_UNOWNED_META = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """Who wrote, how, in which version of the kind and through which subresource."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    manager: Manager
    time: str
    fields: FieldSet


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldConflict:
    """A field that an apply would take from another manager."""

    manager: Manager
    time: str
    field: str


class ApplyConflict(Exception):
    """An apply without force changes fields that others own."""

    def __init__(self, conflicts: tuple[FieldConflict, ...]) -> None:
        super().__init__(f"{len(conflicts)} conflicts")
        self.conflicts = conflicts


def parse_entries(listed: Any) -> tuple[Entry, ...] | None:
    """The entries of managedFields; None where they cannot be read, so that the caller keeps what it had."""
    if not isinstance(listed, list):
        return None
    entries = []
    for item in listed:
        if not isinstance(item, dict) or item.get("operation") not in (APPLY, UPDATE):
            return None
        manager = Manager(
            name=item.get("manager", ""),
            operation=item["operation"],
            api_version=item.get("apiVersion", ""),
            subresource=item.get("subresource", ""),
        )
        entries.append(Entry(manager, item.get("time", ""), item.get("fieldsV1") or {}))
    return tuple(entries)


def render_entries(entries: Iterable[Entry]) -> list[JsonObject]:
    """managedFields as Kubernetes orders them: appliers first, then by time and name."""
    ordered = sorted(
        entries,
        key=lambda entry: (entry.manager.operation, entry.time, entry.manager.name, entry.manager.api_version),
    )
    return [_render(entry) for entry in ordered]


def _render(entry: Entry) -> JsonObject:
    manager = entry.manager
    out: JsonObject = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
        "time": entry.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": entry.fields,
    }
    return out | ({"subresource": manager.subresource} if manager.subresource else {})


def after_update(
    entries: Sequence[Entry], old: JsonView, new: JsonView, *, node: Node, manager: Manager, time: str
) -> tuple[Entry, ...]:
    """The managers after an update: who changed a field owns it, and what is gone nobody owns."""
    changed, removed = compare(old, new, node)
    changed, removed = owned_part(changed), owned_part(removed)
    if not changed and not removed:
        return tuple(entries)
    touched = union(changed, removed)
    out = []
    mine: FieldSet = {}
    mine_before: Entry | None = None
    for entry in entries:
        if entry.manager == manager:
            mine_before, mine = entry, difference(entry.fields, removed)
        else:
            out.append(replace(entry, fields=difference(entry.fields, touched)))
    mine = union(mine, changed)
    unchanged = mine_before is not None and mine_before.fields == mine
    out.append(Entry(manager, mine_before.time if unchanged and mine_before else time, mine))
    return _capped([entry for entry in out if entry.fields])


def after_apply(
    entries: Sequence[Entry], live: JsonView, applied: JsonView, *, node: Node, manager: Manager, force: bool
) -> tuple[JsonObject, FieldSet, FieldSet]:
    """The merged object, the fields that `manager` now owns, and those that others lost.

    Raises ApplyConflict where it takes fields from others and `force` is not set.
    """
    wanted = owned_part(fields_set(applied, node))
    merged = merge(live, applied, node)
    others = [entry for entry in entries if entry.manager != manager]
    before = next((entry.fields for entry in entries if entry.manager == manager), {})
    kept = wanted
    for entry in others:
        kept = union(kept, entry.fields)
    merged = remove(merged, difference(before, kept), kept, node)
    changed, removed = compare(live, merged, node)
    taken = intersection(owned_part(changed), wanted)
    if not force:
        _refuse_conflicts(others, taken)
    return merged, wanted, union(taken, owned_part(removed))


def with_applied(
    entries: Sequence[Entry], *, manager: Manager, fields: FieldSet, lost: FieldSet, time: str
) -> tuple[Entry, ...]:
    """The managers after an apply."""
    out = []
    mine_time = time
    for entry in entries:
        if entry.manager == manager:
            mine_time = entry.time if entry.fields == fields else time
        else:
            out.append(replace(entry, fields=difference(entry.fields, lost)))
    out.append(Entry(manager, mine_time, fields))
    return tuple(entry for entry in out if entry.fields)


def _refuse_conflicts(others: Iterable[Entry], taken: FieldSet) -> None:
    conflicts = [
        FieldConflict(manager=entry.manager, time=entry.time, field=describe(path))
        for entry in others
        for path in paths(intersection(entry.fields, taken))
    ]
    if conflicts:
        raise ApplyConflict(tuple(sorted(conflicts, key=lambda conflict: (conflict.manager.name, conflict.field))))


def owned_part(fields: FieldSet) -> FieldSet:
    """`fields` without those that the server alone writes."""
    out = {key: inner for key, inner in fields.items() if key not in ("f:apiVersion", "f:kind")}
    meta = out.get("f:metadata")
    if meta is None:
        return out
    kept = {key: inner for key, inner in meta.items() if key != "." and key[2:] not in _UNOWNED_META}
    if kept:
        return {**out, "f:metadata": kept}
    return without_branch(out, "f:metadata")


def _capped(entries: list[Entry]) -> tuple[Entry, ...]:
    updaters = sorted((entry for entry in entries if entry.manager.operation == UPDATE), key=lambda entry: entry.time)
    excess = len(updaters) - UPDATERS_MAX
    if excess <= 0:
        return tuple(entries)
    joined: FieldSet = {}
    for entry in updaters[: excess + 1]:
        joined = union(joined, entry.fields)
    oldest = updaters[0]
    manager = Manager(name=ANCIENT, operation=UPDATE, api_version=oldest.manager.api_version)
    rest = [entry for entry in entries if entry not in updaters[: excess + 1]]
    return (*rest, Entry(manager, updaters[excess].time, joined))
