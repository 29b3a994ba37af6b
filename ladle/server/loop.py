"""The event loop of a server process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from ladle.server.allocator import keep_large_blocks

Value = TypeVar("Value")


def run_loop(main: Coroutine[Any, Any, Value]) -> Value:
    """Runs `main` to its end on uvloop, or on asyncio's own loop where that has no wheel."""
    keep_large_blocks(os.environ)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(main)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # No wheel for this platform: slower, but the same.
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
