"""Brings an object into the form of its kind: unknown fields out, defaults in, types as declared. Pure, in place."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from controller.api.quantity import quantity_or_none
from controller.api.structural import Node
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.kinds.pods import quantities_of
from onebox.apiserver.objects.decoding import cannot_decode
from onebox.apiserver.requests import FieldValidation, Target, WriteOptions
from onebox.apiserver.status import bad_request

_QUANTITY_MESSAGE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def shape(
    value: JsonObject, target: Target, options: WriteOptions, duplicates: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Prunes and defaults the object; returns warnings. Refused where fields are unknown and validation is strict."""
    schema, strategy = target.version.schemas.structural, target.resource.strategy
    if strategy.typed:
        _drop_empty(value, schema.root)
    unknown = schema.prune(value)
    schema.default(value)
    strategy.complete(value)
    if strategy.typed:
        _check_encodings(value, target)
    if options.validation is FieldValidation.IGNORE or not (unknown or duplicates):
        return ()
    complaints = [f'duplicate field "{path}"' for path in duplicates] + [f'unknown field "{path}"' for path in unknown]
    if options.validation is FieldValidation.STRICT:
        kind = target.resource.kind
        message = f'{kind} in version "{target.version.name}" cannot be handled as a {kind}: strict decoding error: '
        raise bad_request(message + ", ".join(complaints))
    return tuple(complaints)


def _drop_empty(value: Any, node: Node) -> None:
    """Takes out nulls, empty maps and empty lists, which Go's types cannot tell from absence. Empty objects stay."""
    if isinstance(value, list):
        for item in value:
            _drop_empty(item, node.items) if node.items is not None else None
        return
    if not isinstance(value, dict) or node.preserve_unknown:
        return
    for name in list(value):
        inner = value[name]
        part = node.properties.get(name)
        if inner is None:
            del value[name]
        elif part is not None:
            if inner in ([], {}) and (part.items is not None or part.additional is not None):
                del value[name]
            elif isinstance(inner, dict | list):
                _drop_empty(inner, part)


def _check_encodings(value: JsonView, target: Target) -> None:
    """What Kubernetes refuses while decoding: quantities and base64."""
    kind = target.resource.kind
    if kind in ("Pod", "Deployment", "ReplicaSet", "Job"):
        spec = value.get("spec") or {}
        pod = spec if kind == "Pod" else ((spec.get("template") or {}).get("spec") or {})
        if isinstance(pod, dict) and any(quantity_or_none(quantity) is None for quantity in quantities_of(pod)):
            raise cannot_decode(target, _QUANTITY_MESSAGE)
    elif kind == "Secret" and isinstance(value.get("data"), dict):
        for encoded in value["data"].values():
            _check_base64(encoded, target)


def _check_base64(encoded: Any, target: Target) -> None:
    try:
        base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError):
        position = next((at for at, char in enumerate(str(encoded)) if not (char.isalnum() or char in "+/=")), 0)
        raise cannot_decode(target, f"illegal base64 data at input byte {position}") from None
