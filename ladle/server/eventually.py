"""Values that are there at once or later. Most requests are answered without a single await; this keeps them so."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeAlias, TypeGuard, TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")

Eventually: TypeAlias = Value | Coroutine[Any, Any, Value]
"""The value, or the coroutine that returns it."""


def is_later(value: Eventually[Value]) -> TypeGuard[Coroutine[Any, Any, Value]]:
    """Whether this has to be awaited."""
    return type(value) is CoroutineType


def then(value: Eventually[Value], function: Callable[[Value], Result]) -> Eventually[Result]:
    """`function` of the value, as soon as it is there."""
    if is_later(value):
        return _then(value, function)
    return function(value)  # type: ignore[arg-type]  # TypeGuard narrows in one direction only.


async def _then(value: Coroutine[Any, Any, Value], function: Callable[[Value], Result]) -> Result:
    return function(await value)
