"""A model's functions as one call: preprocess, then predict or explain, then postprocess.

Where none of them is `async`, they run one after the other as a single function, in the loop or in a thread as their time
suggests. Where one is, the others are placed one by one, so that a slow one of those does not stop the loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ladle.protocol.messages import InferRequest
from ladle.server.eventually import is_later
from ladle.server.execution import Call, Function, Runner

PREDICT = "predict"
EXPLAIN = "explain"


@dataclass(frozen=True, slots=True)
class Step:
    """One function: of what the step before returned (the request itself, at first), and of the request as it came."""

    function: Callable[[Any, InferRequest], Any]
    is_async: bool

    @classmethod
    def of_value(cls, function: Callable[[Any], Any]) -> Step:
        """A step that looks at the value only."""
        return cls(lambda value, _: function(value), inspect.iscoroutinefunction(function))

    @classmethod
    def of_both(cls, function: Callable[[Any, InferRequest], Any]) -> Step:
        return cls(function, inspect.iscoroutinefunction(function))


def compose(steps: Sequence[Step], runner: Runner) -> Function:
    """All steps as one function of a request; a coroutine function where one of them is."""
    if any(step.is_async for step in steps):
        return _in_places(steps, runner)
    if len(steps) == 1:  # Most models have no more than `predict`.
        only = steps[0].function
        return lambda request: only(request, request)

    def run(request: InferRequest) -> Any:
        value: Any = request
        for step in steps:
            value = step.function(value, request)
        return value

    return run


@dataclass(frozen=True, slots=True)
class _Passed:
    """What a single step is given."""

    value: Any
    request: InferRequest

    @property
    def size_bytes(self) -> int:
        return self.request.size_bytes


def _in_places(steps: Sequence[Step], runner: Runner) -> Function:
    calls = [Call(_unpacking(step), _unheard) for step in steps]

    async def run(request: InferRequest) -> Any:
        value: Any = request
        for step, call in zip(steps, calls, strict=True):
            if step.is_async:
                value = await step.function(value, request)
                continue
            result = runner.run(call, _Passed(value, request))
            value = await result if is_later(result) else result
        return value

    return run


def _unpacking(step: Step) -> Callable[[_Passed], Any]:
    return lambda passed: step.function(passed.value, passed.request)


def _unheard(_: float) -> None:
    """Steps are not counted one by one; the whole is."""
