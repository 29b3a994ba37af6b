"""What whoever forwards needs of a request, whichever version of HTTP it came in, and how it is brought to one pod."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from controller.base.clock import Clock
from onebox.knative.activator.clients import Exchange
from onebox.knative.activator.deadlines import Deadlines, RequestTimeout
from onebox.knative.activator.heads import Header, RequestHead, render_request
from onebox.knative.activator.pods import PodConnection, PodFailed, PodPool
from onebox.knative.activator.targets import RevisionLimits
from onebox.knative.endpoints import Address

TIMEOUT_TEXT: Final = "activator request timeout"
"""Knative's own words; clients and tests look for them."""
_NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")


class Refusal(Exception):
    """The answer to a request that no pod will answer."""

    def __init__(self, status: int, text: str, headers: tuple[Header, ...] = (_NO_SNIFF,)) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


class ConnectFailed(Exception):
    """No connection could be made, so that nothing was sent: another pod may get the request."""


class Forwarded(Protocol):
    """One request and its answer."""

    head: RequestHead
    task: asyncio.Task[None] | None
    """Whoever works on it; cancelled when the client goes away."""
    started: bool
    """Whether the answer has begun."""
    status: int
    """Of the answer; 0 until it begins."""
    started_s: float | None

    @property
    def held_bytes(self) -> int:
        """What it may take of the memory while it waits."""
        ...

    def reply(self, status: int, text: str = "", headers: tuple[Header, ...] = ()) -> None:
        """An answer of our own, unless one has begun."""
        ...

    def abort(self) -> None:
        """Breaks off: the client must not take a part for the whole."""
        ...


Carry = Callable[[Address, RevisionLimits], Coroutine[Any, Any, None]]
"""Brings one request to the pod at an address and its answer back; ConnectFailed where nothing was sent, Refusal where the
pod has no answer."""


class Http1Carrier:
    """Over HTTP/1.1: one request at a time on each connection."""

    def __init__(self, pool: PodPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def carry(self, exchange: Exchange, address: Address, limits: RevisionLimits) -> None:
        connection = self._pool.take(address) or await self._connect(address)
        try:
            await self._exchange(exchange, connection, limits)
        finally:
            self._pool.give(connection)

    async def _connect(self, address: Address) -> PodConnection:
        try:
            return await self._pool.connect(address)
        except OSError as error:
            raise ConnectFailed(dial_error(address, error)) from error

    async def _exchange(self, exchange: Exchange, connection: PodConnection, limits: RevisionLimits) -> None:
        head = exchange.head
        request = render_request(head, connection.address)
        done = connection.send(request, exchange, method=head.line.method, chunked=head.chunked)
        exchange.attach(connection)
        deadlines = Deadlines(exchange, connection.fail, limits=limits, clock=self._clock)
        try:
            await done
        except RequestTimeout:
            if exchange.started:
                exchange.finish_late(TIMEOUT_TEXT)
            else:
                raise Refusal(504, TIMEOUT_TEXT, ()) from None
        except PodFailed as error:
            if exchange.started:
                exchange.abort()
            else:
                raise Refusal(502, f"{error}\n") from None
        else:
            exchange.finish()
        finally:
            deadlines.stop()
            exchange.detach()


def dial_error(address: Address, error: OSError) -> str:
    """A failed connection in the words of Go's net package, which Knative's clients know."""
    why = "i/o timeout" if isinstance(error, TimeoutError) else f"connect: {_errno_text(error)}"
    return f"dial tcp {address}: {why}\n"


def _errno_text(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
