"""A named array, and its two forms on the wire: a JSON list, and raw bytes (the binary tensor extension, gRPC).

Whatever comes from a client is checked here against the shape and datatype that it claims; complaints name the input, what
was expected and what came. Arrays made from raw bytes are views of the request and read-only.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ladle.errors import InvalidInput, Unsupported
from ladle.protocol.datatypes import DATATYPES, Datatype, datatype_of

Array: TypeAlias = NDArray[Any]
Parameters: TypeAlias = Mapping[str, "str | int | float | bool"]
NO_PARAMETERS: Parameters = {}
_SHARED_MEMORY = "shared_memory_region"
_LENGTH = struct.Struct("<I")
_SAFE_SQUARES = 1e76
"""Where the squares of some numbers sum to less, each fits into 32 bits, whose largest is 3.4e38."""
_BF16_SHIFT_BITS = 16
"""BF16 is the upper half of a float32."""


@dataclass(slots=True)
class Tensor:
    """A named array with its datatype on the wire. BYTES elements are `bytes`.

    A value: nobody changes one. Not frozen, since that triples the time to make one (0.4 to 1.1 µs, measured), and every
    request makes several; the same holds for requests and responses.
    """

    name: str
    datatype: Datatype
    array: Array
    parameters: Parameters = field(default_factory=lambda: NO_PARAMETERS)
    source: list[Any] | None = None
    """The JSON that it was made of, nested as it came; None where it came otherwise."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def strings(self) -> Array:
        """An object array of `str` from BYTES; InvalidInput where an element is not UTF-8."""
        try:
            return _objects((_text(element) for element in self.array.flat), self.shape)
        except UnicodeDecodeError as error:
            raise InvalidInput(f"input '{self.name}': an element is not UTF-8: {error}") from None


def refuse_shared_memory(parameters: Parameters, what: str) -> None:
    """Unsupported where a tensor is said to lie in Triton's shared memory: `what` names it."""
    if _SHARED_MEMORY in parameters:
        raise Unsupported(f"{what}: shared memory is not supported, send and ask for tensors in the message itself")


def tensor_of(name: str, values: object, datatype: str | None = None) -> Tensor:
    """A tensor from an array or whatever numpy takes for one; TypeError where no datatype fits."""
    array = np.asarray(values)
    if datatype is not None:
        kind = DATATYPES[datatype]
        return Tensor(name, kind, array.astype(kind.dtype, copy=False))
    return Tensor(name, datatype_of(array), array)


def tensor_from_json(name: str, datatype: Datatype, shape: tuple[int, ...], data: list[Any]) -> Tensor:
    """The tensor that `data`, nested or flat, stands for."""
    if not datatype.json:
        raise InvalidInput(f"input '{name}': {datatype.name} cannot be sent as JSON, send it in binary form")
    is_bytes = datatype.name == "BYTES"
    try:
        array = np.asarray(data, dtype=object if is_bytes else None)
    except ValueError:
        raise InvalidInput(f"input '{name}': data is ragged, expected {_describe(datatype, shape)}") from None
    _check_count(name, datatype, shape, array.size)
    array = _as_bytes(name, array) if is_bytes else _as_numbers(name, datatype, array, data)
    return Tensor(name, datatype, array.reshape(shape), source=data)


def _as_numbers(name: str, datatype: Datatype, array: Array, data: list[Any]) -> Array:
    if array.dtype == datatype.dtype:
        return array
    wanted, kind = datatype.dtype.kind, array.dtype.kind
    # The common case, without a look at each number. vdot, unlike dot, does not warn of an overflow.
    if wanted == "f" and kind == "f" and np.vdot(array, array) < _SAFE_SQUARES:
        return array.astype(datatype.dtype)
    if array.size == 0:
        return array.astype(datatype.dtype)
    if kind == "O" and wanted == "f":
        array, kind = _with_nulls(data), "f"
    fits = kind in "iub" if wanted == "b" else kind in "iufb"
    if not fits or array.dtype == object:
        raise InvalidInput(f"input '{name}': data holds other values than {datatype.name}")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(datatype.dtype)
        if wanted == "f":
            lossless = _same_finite(array, converted)
        else:
            lossless = bool((converted.astype(array.dtype) == array).all()) and _same_sign(array, converted)
    if not lossless:
        raise InvalidInput(f"input '{name}': data holds values outside {datatype.name}")
    return converted


def _with_nulls(data: list[Any]) -> Array:
    """JSON has no NaN; encoders, ours too, write null."""
    flat = list(_flatten(data))
    if not all(value is None or (isinstance(value, int | float)) for value in flat):
        return np.empty(0, dtype=object)
    return np.array([math.nan if value is None else float(value) for value in flat])


def _flatten(data: Iterable[Any]) -> Iterable[Any]:
    for value in data:
        if isinstance(value, list):
            yield from _flatten(value)
        else:
            yield value


def _same_finite(array: Array, converted: Array) -> bool:
    return bool((np.isfinite(array) == np.isfinite(converted)).all())


def _same_sign(array: Array, converted: Array) -> bool:
    # -1 as UINT64 and back is -1 again.
    return bool(((array < 0) == (converted < 0)).all())


def _as_bytes(name: str, array: Array) -> Array:
    if not all(isinstance(element, str) for element in array.flat):
        raise InvalidInput(f"input '{name}': data of BYTES must be strings")
    return _objects((element.encode() for element in array.flat), array.shape)


def tensor_from_raw(name: str, datatype: Datatype, shape: tuple[int, ...], raw: memoryview) -> Tensor:
    """The tensor whose little-endian bytes these are."""
    if datatype.name == "BYTES":
        return Tensor(name, datatype, _unpack_bytes(name, datatype, shape, raw))
    count = math.prod(shape)
    if len(raw) != count * datatype.size_bytes:
        expected = f"{count * datatype.size_bytes} bytes for {_describe(datatype, shape)}"
        raise InvalidInput(f"input '{name}': expected {expected}, got {len(raw)}")
    if datatype.name == "BF16":
        halves = np.frombuffer(raw, dtype="<u2").astype("<u4")
        array: Array = (halves << _BF16_SHIFT_BITS).view("<f4")
    else:
        array = np.frombuffer(raw, dtype=datatype.dtype)
        if not array.flags.aligned:
            array = array.copy()  # Compiled code that takes the pointer expects whole words.
    return Tensor(name, datatype, array.reshape(shape))


def _unpack_bytes(name: str, datatype: Datatype, shape: tuple[int, ...], raw: memoryview) -> Array:
    elements, offset, end = [], 0, len(raw)
    while offset + _LENGTH.size <= end:
        (length,) = _LENGTH.unpack_from(raw, offset)
        offset += _LENGTH.size
        if offset + length > end:
            break
        elements.append(bytes(raw[offset : offset + length]))
        offset += length
    if offset != end:
        raise InvalidInput(f"input '{name}': an element of BYTES runs past the end of the data")
    return shaped_bytes(name, datatype, shape, elements)


def shaped_bytes(name: str, datatype: Datatype, shape: tuple[int, ...], elements: Iterable[bytes]) -> Array:
    """The elements of a BYTES tensor in its shape; InvalidInput where their number is another."""
    listed = list(elements)
    _check_count(name, datatype, shape, len(listed))
    return _objects(listed, shape)


def raw_of(tensor: Tensor) -> bytes | memoryview:
    """The tensor's little-endian bytes; without a copy where the array already lies that way."""
    array = tensor.array
    if tensor.datatype.name == "BYTES":
        return b"".join(_packed(element) for element in array.flat)
    if tensor.datatype.name == "BF16":
        return (np.ascontiguousarray(array, dtype="<f4").view("<u4") >> _BF16_SHIFT_BITS).astype("<u2").tobytes()
    whole = np.ascontiguousarray(array, dtype=tensor.datatype.dtype)
    return whole.reshape(-1).view(np.uint8).data if whole.size else b""


def json_data_of(tensor: Tensor) -> Array | list[Any]:
    """The flat data as the JSON encoder takes it; InvalidInput where JSON cannot carry it."""
    if not tensor.datatype.json:
        message = f"output '{tensor.name}': {tensor.datatype.name} cannot be sent as JSON, ask for it in binary form"
        raise InvalidInput(message)
    if tensor.datatype.name == "BYTES":
        try:
            return [_text(element) for element in tensor.array.flat]
        except UnicodeDecodeError:
            raise InvalidInput(f"output '{tensor.name}': bytes are not UTF-8, ask for them in binary form") from None
    return np.ascontiguousarray(tensor.array).reshape(-1)


def _packed(element: object) -> bytes:
    encoded = element if isinstance(element, bytes) else str(element).encode()
    return _LENGTH.pack(len(encoded)) + encoded


def _text(element: object) -> str:
    return element.decode() if isinstance(element, bytes) else str(element)


def _objects(elements: Iterable[object], shape: tuple[int, ...]) -> Array:
    listed = list(elements)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array.reshape(shape)


def _check_count(name: str, datatype: Datatype, shape: tuple[int, ...], count: int) -> None:
    expected = math.prod(shape)
    if count != expected:
        described = _describe(datatype, shape)
        raise InvalidInput(f"input '{name}': expected {expected} elements for {described}, got {count}")


def _describe(datatype: Datatype, shape: tuple[int, ...]) -> str:
    return f"{datatype.name} of shape {list(shape)}"
