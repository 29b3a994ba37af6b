"""JSON with numpy arrays in it, fast: orjson, and a way out for what orjson does not take."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from ladle.errors import InvalidInput

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
JsonDecodeError = orjson.JSONDecodeError


def decode(body: bytes | bytearray | memoryview) -> Any:
    """The parsed JSON; InvalidInput in KServe's words where it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"Unrecognized request format: {error}") from None


def encode(value: object) -> bytes:
    """UTF-8 JSON; NaN and infinities become null. TypeError for what has no JSON form."""
    return orjson.dumps(value, default=_plain, option=_OPTIONS)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()  # Not contiguous, byte-swapped, of objects, or a scalar that orjson does not know.
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict(orient="records")  # A pandas table, as KServe writes it.
    if hasattr(value, "tolist"):
        return value.tolist()  # A pandas series, a tensor of a framework.
    raise TypeError(f"{type(value).__name__} has no JSON form")
