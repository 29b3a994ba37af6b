"""How many calls are being answered, and when there is none: what the end of a server waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Answer = Callable[[Any, Any], Awaitable[Any]]
"""Of a message and its context: a handler's function, for calls with one answer."""


class CallsInside:
    """Counts the calls of the handlers that it is put around. Streams are not meant: health's last until their client goes."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def counted(self, answer: Answer) -> Answer:
        """The same answer, counted while it is being made."""

        async def call(message: Any, context: Any) -> Any:
            self._count += 1
            self._none.clear()
            try:
                return await answer(message, context)
            finally:
                self._count -= 1
                if not self._count:
                    self._none.set()

        return call

    async def none(self) -> None:
        """Returns when no call is being answered."""
        await self._none.wait()
