"""The datatypes of the Open Inference Protocol and what they are in numpy.

BF16 has no numpy type: such arrays are float32 in memory, which holds every BF16 number, and two bytes on the wire.
BYTES are object arrays of `bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ladle.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Datatype:
    """One datatype. `size_bytes` is per element on the wire, 0 where that varies."""

    name: str
    dtype: np.dtype[np.generic]
    size_bytes: int
    json: bool = True
    """Whether JSON may carry it; 16-bit floats only travel as bytes, as in Triton and KServe."""


def _datatypes() -> Mapping[str, Datatype]:
    plain = {
        "BOOL": "?",
        **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
        **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
        "FP16": "<f2",
        "FP32": "<f4",
        "FP64": "<f8",
    }
    known = {
        name: Datatype(name=name, dtype=np.dtype(code), size_bytes=np.dtype(code).itemsize, json=name != "FP16")
        for name, code in plain.items()
    }
    known["BF16"] = Datatype(name="BF16", dtype=np.dtype("<f4"), size_bytes=2, json=False)
    known["BYTES"] = Datatype(name="BYTES", dtype=np.dtype(object), size_bytes=0)
    return MappingProxyType(known)


DATATYPES = _datatypes()
"""Every datatype by its name on the wire."""
_BY_KIND = {(kind.dtype.kind, kind.dtype.itemsize): kind for kind in DATATYPES.values() if kind.name != "BF16"}
_BYTES_KINDS = frozenset("OSU")


def datatype_named(name: object, *, tensor: str) -> Datatype:
    """The datatype that input `tensor` claims; InvalidInput that lists what there is."""
    known = DATATYPES.get(name) if isinstance(name, str) else None
    if known is None:
        raise InvalidInput(f"input '{tensor}': datatype {name!r} is unknown, must be one of {', '.join(DATATYPES)}")
    return known


def datatype_of(array: NDArray[np.generic]) -> Datatype:
    """The datatype in which an array travels; TypeError for complex numbers, dates and records."""
    if array.dtype.kind in _BYTES_KINDS:
        return DATATYPES["BYTES"]
    known = _BY_KIND.get((array.dtype.kind, array.dtype.itemsize))
    if known is None:
        raise TypeError(f"an array of {array.dtype} has no datatype in the Open Inference Protocol")
    return known
