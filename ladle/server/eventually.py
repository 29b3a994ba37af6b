"""Values that are there at once or later. Most requests are answered without a single await; this keeps them so."""

from __future__ import annotations

from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, TypeAlias, TypeGuard, TypeVar

Value = TypeVar("Value")

Eventually: TypeAlias = Value | Coroutine[Any, Any, Value]
"""The value, or the coroutine that returns it."""


def is_later(value: Eventually[Value]) -> TypeGuard[Coroutine[Any, Any, Value]]:
    """Whether this has to be awaited."""
    return type(value) is CoroutineType
