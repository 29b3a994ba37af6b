"""The queue-proxy for calls that are not HTTP's: the same breaker, counting and deadline around a coroutine.

    async with passage(queue_proxy):
        ...

A call waits for its turn on the loop like every other request, so that those behind it are counted (see run_queue).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ladle.errors import TransientError
from ladle.server.queue_proxy import QueueProxy


class Overloaded(TransientError):
    """The breaker's queue is full, in Knative's words."""

    def __init__(self) -> None:
        super().__init__("pending request queue full")


class TookTooLong(TransientError):
    """The request's time is over, in Knative's words."""

    def __init__(self) -> None:
        super().__init__("request timeout")


@contextlib.asynccontextmanager
async def passage(proxy: QueueProxy, *, proxied: bool = False) -> AsyncIterator[None]:
    """Inside of it the caller has a slot. Raises Overloaded or TookTooLong; leaves once, whatever happens."""
    caller = _Caller(proxy)
    proxy.drainer.touch()
    proxy.stats.arrive(proxy.clock.monotonic_s(), proxied)
    try:
        if not proxy.breaker.enter(caller):
            raise Overloaded
        async with asyncio.timeout(proxy.first_byte_limit_s or None) as limit:
            await caller.turn
            yield
    except TimeoutError:
        if limit.expired():
            raise TookTooLong from None
        raise
    finally:
        proxy.stats.depart(proxy.clock.monotonic_s(), proxied)
        proxy.breaker.leave(caller)


class _Caller:
    """An entrant of the breaker and a piece of work for the loop, in one."""

    __slots__ = ("_proxy", "turn")

    def __init__(self, proxy: QueueProxy) -> None:
        self._proxy = proxy
        self.turn: asyncio.Future[None] = proxy.loop.create_future()

    def admit(self) -> None:
        self._proxy.run_queue.put(self)

    def run(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)
