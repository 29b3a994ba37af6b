"""Kubernetes' protobuf bodies as JSON objects. Read only: kubectl sends protobuf, but takes JSON for an answer.

A body is the four bytes `k8s\\0` and a runtime.Unknown message: type and raw object. Which number is which field stands in
schemas/wire.json. Go writes zero values of plain fields too, which JSON leaves out; where zero means something (`replicas`),
the field is a pointer in Go and its zero is kept.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from controller.base.clock import rfc3339, rfc3339_micro
from controller.base.json import JsonObject

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_EMBEDDED = frozenset({"volumeSource", "handler", "localObjectReference", "ephemeralContainerCommon"})
"""Fields whose own fields stand one level higher in JSON."""
_ZERO_MATTERS = frozenset(
    {
        "replicas", "completions", "parallelism", "backoffLimit", "terminationGracePeriodSeconds", "gracePeriodSeconds",
        "activeDeadlineSeconds", "ttlSecondsAfterFinished", "revisionHistoryLimit", "runAsUser", "runAsGroup", "fsGroup",
        "privileged", "allowPrivilegeEscalation", "readOnlyRootFilesystem", "runAsNonRoot", "enableServiceLinks",
        "automountServiceAccountToken", "optional", "immutable", "suspend", "controller", "blockOwnerDeletion",
        "leaseDurationSeconds", "defaultMode", "orphanDependents", "tolerationSeconds", "priority",
    }
)  # fmt: skip
"""Fields that are pointers in Go."""
_DURATION_BITS = 63


class BadMessage(Exception):
    """Bytes that are no message of this kind."""


def decode_object(body: bytes, group: str, kind: str) -> JsonObject:
    """The JSON object of a body; `group` and `kind` say what the path expects. BadMessage where it is something else."""
    if not body.startswith(_MAGIC):
        raise BadMessage("the body does not start with the prefix of Kubernetes' protobuf encoding")
    unknown = dict(_fields(body[len(_MAGIC) :]))
    type_meta = dict(_fields(_bytes(unknown.get(1, b""))))
    api_version, found = _text(type_meta.get(1, b"")), _text(type_meta.get(2, b""))
    name = f"{_package(api_version)}.{found or kind}"
    if name not in _messages():
        name = f"{_package(group)}.{kind}"
    if name not in _messages():
        raise BadMessage(f"{kind} cannot be read as protobuf here, please send JSON")
    value: JsonObject = _message(_bytes(unknown.get(2, b"")), name)
    head = {"apiVersion": api_version, "kind": found} if found else {}
    return {**head, **value}


def _package(api_version: str) -> str:
    """`core` for v1, `rbac` for rbac.authorization.k8s.io/v1: the prefix of a kind's name in wire.json."""
    group = api_version.rpartition("/")[0] if "/" in api_version or api_version == "v1" else api_version
    return group.split(".")[0] or "core"


@cache
def _messages() -> dict[str, dict[int, tuple[str, str, str]]]:
    stored = orjson.loads(files("onebox.apiserver.schemas").joinpath("wire.json").read_bytes())
    return {
        name: {
            int(number): (entry[0], entry[1], entry[2] if len(entry) > 2 else "") for number, entry in fields.items()
        }
        for name, fields in stored.items()
    }


def _message(data: bytes, name: str) -> Any:
    special = _SPECIAL.get(name)
    if special is not None:
        return special(dict(_fields(data)))
    known = _messages()[name]
    out: JsonObject = {}
    for number, raw in _fields(data):
        entry = known.get(number)
        if entry is None:
            continue
        field, type_, shape = entry
        if shape == "map":
            key, value = _map_entry(raw, type_)
            out.setdefault(field, {})[key] = value
        elif shape == "repeated":
            out.setdefault(field, []).append(_value(raw, type_))
        else:
            _put(out, field, _value(raw, type_))
    return out


def _put(out: JsonObject, field: str, value: Any) -> None:
    if field in _EMBEDDED:
        out.update(value)
    elif value is None or value == "" or (value in (0, False) and value != {} and field not in _ZERO_MATTERS):
        return
    else:
        out[field] = value


def _map_entry(raw: int | bytes, type_: str) -> tuple[str, Any]:
    entry = dict(_fields(_bytes(raw)))
    value = entry.get(2)
    empty: int | bytes = 0 if type_ in ("bool", "int32", "int64") else b""
    return _text(entry.get(1, b"")), _value(empty if value is None else value, type_)


def _value(raw: int | bytes, type_: str) -> Any:
    match type_:
        case "string":
            return _text(raw)
        case "bytes":
            return base64.b64encode(_bytes(raw)).decode()
        case "bool":
            return bool(raw)
        case "int32" | "int64" | "uint32" | "uint64":
            return _signed(raw)
        case _:
            return _message(_bytes(raw), type_)


def _signed(raw: int | bytes) -> int:
    number = raw if isinstance(raw, int) else int.from_bytes(raw, "little")
    return number - (1 << 64) if number >> _DURATION_BITS else number


def _time(fields: dict[int, int | bytes]) -> str | None:
    seconds = _signed(fields.get(1, 0))
    return rfc3339(seconds) if seconds > 0 else None


def _micro_time(fields: dict[int, int | bytes]) -> str | None:
    seconds, nanoseconds = _signed(fields.get(1, 0)), _signed(fields.get(2, 0))
    return rfc3339_micro(seconds + nanoseconds / 1e9) if seconds > 0 else None


def _int_or_string(fields: dict[int, int | bytes]) -> int | str:
    return _text(fields.get(3, b"")) if fields.get(1) else _signed(fields.get(2, 0))


_SPECIAL: dict[str, Callable[[dict[int, int | bytes]], Any]] = {
    "meta.Time": _time,
    "meta.MicroTime": _micro_time,
    "Quantity": lambda fields: _text(fields.get(1, b"")),
    "IntOrString": _int_or_string,
    "meta.FieldsV1": lambda fields: orjson.loads(_bytes(fields.get(1, b"{}")) or b"{}"),
}


def _text(raw: int | bytes) -> str:
    return _bytes(raw).decode(errors="replace")


def _bytes(raw: int | bytes) -> bytes:
    if isinstance(raw, int):
        raise BadMessage("a number stands where a message is expected")
    return raw


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: an integer, or the bytes of anything that has a length."""
    position = 0
    try:
        while position < len(data):
            tag, position = _varint(data, position)
            match tag & 7:
                case 0:
                    value, position = _varint(data, position)
                    yield tag >> 3, value
                case 2:
                    length, position = _varint(data, position)
                    if position + length > len(data):
                        raise BadMessage("the message ends within a field")
                    yield tag >> 3, data[position : position + length]
                    position += length
                case 1 | 5 as wire:
                    width = 8 if wire == 1 else 4
                    yield tag >> 3, data[position : position + width]
                    position += width
                case wire:
                    raise BadMessage(f"wire type {wire} is not used by Kubernetes")
    except IndexError:
        raise BadMessage("the message ends within a number") from None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
