"""Envoy's messages in protobuf's own form, from the JSON in which they are built (pure).

Envoy reads a table of 1,000 services in this form in a third of the processor time that JSON takes (benchmarks in
docs/performance.md). Its Python classes for these messages are 30 MB in memory and megabytes on disk, and all that is
needed of them is which number stands for which field: schemas/wire.json.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

from onebox.istio.xds import Message

ANY = "google.protobuf.Any"
_VARINT, _FIXED64, _LENGTH = 0, 1, 2
"""Protobuf's wire types."""
_RANGES: Mapping[str, tuple[int, int]] = {
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s")
_WRAPPED = "Value"
"""google.protobuf.UInt32Value is a number in JSON, and a message with it as field 1 on the wire."""


class Unencodable(ValueError):
    """A value that its field cannot hold; the text says where and why."""


class _Field(NamedTuple):
    number: int
    type_: str
    shape: str = ""
    """`repeated`, `map`, or nothing."""


def encode_message(type_: str, message: Message) -> bytes:
    """A message of the type with this full name; Unencodable where a field is unknown or its value is not for it."""
    special = _SPECIAL.get(type_)
    if special is not None:
        return special(message)
    fields = _messages()[type_]
    parts = []
    for name, value in message.items():
        field = fields.get(name)
        if field is None:
            raise Unencodable(f"{type_} has no field {name}")
        try:
            parts += [_tagged(field, each) for each in _values(field, value)]
        except Unencodable as error:
            raise Unencodable(f"{name}: {error}") from None
    return b"".join(parts)


def field_number(type_: str, name: str) -> int:
    """The number of one field of a message."""
    return _messages()[type_][name].number


def encode_bytes(number: int, content: bytes) -> bytes:
    """Field `number` with content that has a length: a text, bytes, or an encoded message."""
    return b"%b%b%b" % (_varint(number << 3 | _LENGTH), _varint(len(content)), content)


def _values(field: _Field, value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    if field.shape == "map":
        return [{"key": key, "value": inner} for key, inner in value.items()]
    return value if field.shape == "repeated" else (value,)


def _tagged(field: _Field, value: Any) -> bytes:
    type_ = field.type_
    if type_ in _RANGES or type_ == "bool":
        return _varint(field.number << 3 | _VARINT) + _varint(_integer(type_, value))
    if type_ == "double":
        return _varint(field.number << 3 | _FIXED64) + struct.pack("<d", value)
    if type_ in _messages():
        return encode_bytes(field.number, encode_message(type_, value))
    if type_ in ("string", "bytes"):
        return encode_bytes(field.number, value.encode() if type_ == "string" else _decoded(value))
    return _varint(field.number << 3 | _VARINT) + _varint(_enumerated(type_, value))


def _integer(type_: str, value: Any) -> int:
    if type_ == "bool":
        return int(bool(value))
    least, most = _RANGES[type_]
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise Unencodable(f"{value!r} is no integer") from None
    if not least <= number <= most:
        raise Unencodable(f"{number} must be in [{least}, {most}]")
    return number & 0xFFFF_FFFF_FFFF_FFFF  # Negative numbers are ten bytes long, as if they had 64 bits.


def _enumerated(type_: str, value: Any) -> int:
    number = _enums()[type_].get(value) if isinstance(value, str) else value
    if not isinstance(number, int):
        raise Unencodable(f"{value!r} is none of {', '.join(_enums()[type_])}")
    return number


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Unencodable("is not base64") from None


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _any(message: Message) -> bytes:
    url = message["@type"]
    inner = {name: value for name, value in message.items() if name != "@type"}
    content = encode_message(url.rpartition("/")[2], inner)
    return encode_bytes(1, url.encode()) + encode_bytes(2, content)


def _duration(value: Any) -> bytes:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Unencodable(f"{value!r} is no duration such as 1.5s")
    sign = -1 if found[1] else 1
    parts = {"seconds": sign * int(found[2]), "nanos": sign * int((found[3] or "").ljust(9, "0"))}
    fields = _messages()["google.protobuf.Duration"]
    return b"".join(_tagged(fields[name], part) for name, part in parts.items())


def _wrapper(type_: str) -> Callable[[Any], bytes]:
    return lambda value: _tagged(_messages()[type_]["value"], value)


_SPECIAL: Mapping[str, Callable[[Any], bytes]] = {
    ANY: _any,
    "google.protobuf.Duration": _duration,
    **{
        name: _wrapper(name)
        for name in (f"google.protobuf.{kind}{_WRAPPED}" for kind in ("Bool", "Double", "UInt32", "UInt64", "String"))
    },
}


@cache
def _messages() -> Mapping[str, Mapping[str, _Field]]:
    stored = _table()["messages"]
    return {name: {field: _Field(*entry) for field, entry in fields.items()} for name, fields in stored.items()}


@cache
def _enums() -> Mapping[str, Mapping[str, int]]:
    found: Mapping[str, Mapping[str, int]] = _table()["enums"]
    return found


@cache
def _table() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = orjson.loads(files("onebox.istio.schemas").joinpath("wire.json").read_bytes())
    return loaded
