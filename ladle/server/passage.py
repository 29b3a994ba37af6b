"""The queue-proxy for calls that are not HTTP's: the same breaker, counting and deadline around a coroutine.

    passage = Passage(queue_proxy)
    try:
        await passage.enter()
        result = await passage.in_time(slow())
    finally:
        passage.leave()

Three calls and not one `async with` around a generator with a timer in it: a call whose model answers at once waits for
nothing, and needs neither (measured 2026-11-21: 25 µs of 500 for each call).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ladle.errors import TransientError
from ladle.server.queue_proxy import QueueProxy

Value = TypeVar("Value")


class Overloaded(TransientError):
    """The breaker's queue is full, in Knative's words."""

    def __init__(self) -> None:
        super().__init__("pending request queue full")


class TookTooLong(TransientError):
    """The request's time is over, in Knative's words."""

    def __init__(self) -> None:
        super().__init__("request timeout")


class Passage:
    """One counted call, from its making to `leave`. An entrant of the breaker."""

    __slots__ = ("_admitted", "_arrived_s", "_proxied", "_proxy", "_turn")

    def __init__(self, proxy: QueueProxy, *, proxied: bool = False) -> None:
        self._proxy = proxy
        self._proxied = proxied
        self._admitted = False
        self._turn: asyncio.Future[None] | None = None
        self._arrived_s = proxy.clock.monotonic_s()
        proxy.drainer.touch(self._arrived_s)
        proxy.stats.arrive(self._arrived_s, proxied)

    async def enter(self) -> None:
        """Returns with a slot; raises Overloaded or TookTooLong."""
        if not self._proxy.breaker.enter(self):
            raise Overloaded
        if self._admitted:
            # Those that arrived behind it have to be counted before a model stops the loop: see run_queue.
            await asyncio.sleep(0)
        else:
            self._turn = self._proxy.loop.create_future()
            await self.in_time(self._turn)
        limit_s = self._proxy.first_byte_limit_s
        if limit_s and self._proxy.clock.monotonic_s() - self._arrived_s >= limit_s:
            raise TookTooLong

    def admit(self) -> None:
        self._admitted = True
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def in_time(self, awaitable: Awaitable[Value]) -> Value:
        """What it returns; TookTooLong, and it is cancelled, at the call's deadline."""
        limit_s = self._proxy.first_byte_limit_s
        if not limit_s:
            return await awaitable
        try:
            async with asyncio.timeout(self._arrived_s + limit_s - self._proxy.clock.monotonic_s()) as limit:
                return await awaitable
        except TimeoutError:
            if limit.expired():
                raise TookTooLong from None
            raise

    def leave(self) -> None:
        """Ends the call's stay or its wait. Called once, whatever happened."""
        self._proxy.stats.depart(self._proxy.clock.monotonic_s(), self._proxied)
        self._proxy.breaker.leave(self)
