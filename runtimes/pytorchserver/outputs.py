"""Names for what a model returns: a tensor, or tensors in tuples, lists, dicts and named tuples, however deep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from ladle.errors import InferenceError


def position_name(index: int) -> str:
    """An output that has no name of its own."""
    return f"output-{index}"


def named_outputs(result: object) -> dict[str, Any]:
    """Every tensor and number in `result` by name; None counts for nothing. InferenceError for anything else.

    >>> named_outputs({"boxes": 1, "scores": (2, 3)})
    {'boxes': 1, 'scores.0': 2, 'scores.1': 3}
    >>> named_outputs((1, None, 2))
    {'output-0': 1, 'output-2': 2}
    """
    found = dict(_leaves(result, ()))
    if not found:
        raise InferenceError(f"the model returned {type(result).__name__} without a tensor in it")
    return found


def _leaves(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[str, Any]]:
    if value is None:
        return
    if isinstance(value, torch.Tensor | bool | int | float):
        yield _name(path), value
        return
    for key, inner in _items(value):
        yield from _leaves(inner, (*path, key))


def _items(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, Mapping):
        return ((str(key), inner) for key, inner in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return zip(value._fields, value, strict=True)
    if isinstance(value, tuple | list):
        return iter(enumerate(value))
    if is_dataclass(value):
        return ((field.name, getattr(value, field.name)) for field in fields(value))
    raise InferenceError(f"the model returned {type(value).__name__}, expected tensors, or tuples and dicts of them")


def _name(path: tuple[str | int, ...]) -> str:
    if all(isinstance(step, int) for step in path):
        return position_name(0) if not path else "output-" + "-".join(map(str, path))
    return ".".join(map(str, path))
