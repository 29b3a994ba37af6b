"""Waiting for conditions: the one place in the tests where time passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")

POLL_S = 0.02


def wait_for(what: str, probe: Callable[[], Value], *, timeout_s: float = 30.0) -> Value:
    """The first truthy answer of `probe`; fails with `what` and the last answer after `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    while not (answer := probe()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s} s: {what}; last seen: {answer!r}")
        time.sleep(POLL_S)
    return answer


async def eventually(what: str, probe: Callable[[], Awaitable[Value]], *, timeout_s: float = 30.0) -> Value:
    """`wait_for` for a coroutine function."""
    async with asyncio.timeout(timeout_s + 1):
        deadline_s = time.monotonic() + timeout_s
        while not (answer := await probe()):
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {timeout_s} s: {what}; last seen: {answer!r}")
            await asyncio.sleep(POLL_S)
        return answer
