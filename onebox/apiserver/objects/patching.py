"""The four patch types on stored objects: what each makes of the latest state, and who owns the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from controller.base.json import JsonObject, JsonView
from onebox.apiserver.fields.managers import (
    APPLY,
    ApplyConflict,
    Entry,
    Manager,
    after_apply,
    parse_entries,
    with_applied,
)
from onebox.apiserver.objects.decoding import check_identity, duplicate_keys, parse_yaml
from onebox.apiserver.objects.encoding import parse_object
from onebox.apiserver.objects.shaping import shape
from onebox.apiserver.objects.writing import Writer, Written
from onebox.apiserver.patch.json_patch import BadPatch, json_patch
from onebox.apiserver.patch.merge import merge_patch
from onebox.apiserver.patch.strategic import strategic_merge
from onebox.apiserver.requests import FieldValidation, Target, WriteOptions
from onebox.apiserver.status import Refused, bad_request, not_found, unsupported_media
from onebox.apiserver.storage.records import Record

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_KNOWN = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)

Transform = Callable[[JsonObject], JsonObject]


@dataclass(frozen=True, slots=True)
class Patched:
    """A decided patch; `created` where an apply made a new object."""

    written: Written
    warnings: tuple[str, ...]
    created: bool = False


def check_patch_type(media: str, target: Target) -> None:
    """Refused (415) where this kind does not take this type of patch."""
    if media not in _KNOWN:
        raise Refused(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    if media == STRATEGIC_PATCH and target.resource.custom:
        raise unsupported_media((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))


def build_transform(media: str, body: bytes, target: Target) -> Transform:
    """What a patch does to an object, for all types but apply; Refused where the body is no such patch."""
    try:
        patch: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"error decoding patch: {error}") from None
    match media:
        case _ if media == JSON_PATCH:
            return _json_transform(patch)
        case _ if media == MERGE_PATCH:
            merged: Callable[[JsonObject], Any] = lambda value: merge_patch(value, patch)  # noqa: E731
        case _:
            root = target.version.schemas.structural.root
            merged = lambda value: strategic_merge(value, patch, root)  # noqa: E731
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}")
    return merged


def _json_transform(patch: Any) -> Transform:
    if not isinstance(patch, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")

    def transform(value: JsonObject) -> JsonObject:
        try:
            patched: JsonObject = json_patch(value, patch)
        except BadPatch as error:
            # kube-apiserver tells no more than this either.
            message = "the server rejected our request due to an error in our request"
            raise Refused(422, "Invalid", message, {}) from error
        return patched

    return transform


def patch_object(
    writer: Writer, target: Target, record: Record, transform: Transform, *, options: WriteOptions, user: str
) -> Patched:
    """Decides on a JSON, merge or strategic merge patch of a stored object."""
    value = transform(parse_object(record, target))
    check_identity(value, target)
    warnings = shape(value, target, options)
    return Patched(writer.update(target, record, value, options, user=user), warnings)


def apply_object(
    writer: Writer, target: Target, record: Record | None, body: bytes, *, options: WriteOptions, user: str
) -> Patched:
    """Decides on a server-side apply, which creates the object where there is none."""
    applied = _parse_applied(body, target)
    duplicates = duplicate_keys(body) if options.validation_asked else ()
    warnings = _prune_applied(applied, target, options, duplicates)
    _keep_own_part(applied, target)
    if record is None and target.subresource:
        raise not_found(target.resource.plural, target.resource.group, target.name)
    manager = Manager(
        name=options.manager, operation=APPLY, api_version=target.api_version, subresource=target.subresource
    )
    live: JsonObject = {} if record is None else parse_object(record, target)
    entries = parse_entries(live.get("metadata", {}).get("managedFields")) or ()
    root = target.version.schemas.structural.root
    try:
        merged, owned, lost = after_apply(entries, live, applied, node=root, manager=manager, force=options.force)
    except ApplyConflict as error:
        raise _conflict(error) from error

    def managing(before: tuple[Entry, ...], _: JsonView, __: JsonObject, now: str) -> tuple[Entry, ...]:
        return with_applied(before, manager=manager, fields=owned, lost=lost, time=now)

    value = _fresh(merged)
    shape(value, target, _SILENT)
    if record is None:
        written = writer.create(target, value, options, user=user, managing=managing)
        return Patched(written, warnings, created=True)
    return Patched(writer.update(target, record, value, options, user=user, managing=managing), warnings)


_SILENT = WriteOptions(manager="", validation=FieldValidation.IGNORE)


def _fresh(value: JsonObject) -> JsonObject:
    """A copy that shares nothing with what it was merged from."""
    copy: JsonObject = orjson.loads(orjson.dumps(value))
    return copy


def _parse_applied(body: bytes, target: Target) -> JsonObject:
    applied = parse_yaml(body)
    if not isinstance(applied, dict):
        raise bad_request("error decoding YAML: the applied configuration must be an object")
    check_identity(applied, target)
    if applied["metadata"].get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    return applied


def _prune_applied(
    applied: JsonObject, target: Target, options: WriteOptions, duplicates: tuple[str, ...]
) -> tuple[str, ...]:
    """Takes unknown fields out of an applied configuration. Defaults stay out: nobody who left a field out owns it."""
    complaints = [f'duplicate field "{path}"' for path in duplicates]
    complaints += [f'unknown field "{path}"' for path in target.version.schemas.structural.prune(applied)]
    if not complaints or options.validation is FieldValidation.IGNORE:
        return ()
    if options.validation is FieldValidation.STRICT:
        kind = target.resource.kind
        message = f'{kind} in version "{target.version.name}" cannot be handled as a {kind}: strict decoding error: '
        raise bad_request(message + ", ".join(complaints))
    return tuple(complaints)


def _keep_own_part(applied: JsonObject, target: Target) -> None:
    """An apply through one path says nothing about the fields of the other."""
    if target.subresource == "status":
        for name in list(applied):
            if name not in ("apiVersion", "kind", "metadata", "status"):
                del applied[name]
    elif target.version.has_status:
        applied.pop("status", None)


def _conflict(error: ApplyConflict) -> Refused:
    conflicts = error.conflicts
    lines: list[str] = []
    last = ""
    for conflict in conflicts:
        who = f'conflicts with "{conflict.manager.name}"{_how(conflict.manager, conflict.time)}:'
        if who != last:
            lines.append(who)
        lines.append(f"- {conflict.field}")
        last = who
    if len(conflicts) == 1:
        only = conflicts[0]
        how = _how(only.manager, only.time)
        message = f'Apply failed with 1 conflict: conflict with "{only.manager.name}"{how}: {only.field}'
    else:
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{conflict.manager.name}"{_how(conflict.manager, conflict.time)}',
            "field": conflict.field,
        }
        for conflict in conflicts
    ]
    return Refused(409, "Conflict", message, {"causes": causes})


def _how(manager: Manager, time: str) -> str:
    """Kubernetes adds how and when only for managers that did not apply."""
    if manager.operation == APPLY:
        return ""
    through = f' with subresource "{manager.subresource}"' if manager.subresource else ""
    return f"{through} using {manager.api_version} at {time}"
