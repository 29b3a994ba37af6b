"""Both versions of HTTP on one port: a client of HTTP/2 with prior knowledge begins with a preface that no other sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 3.4."""
_WAIT_S = 30.0
"""For the first byte; HTTP/1.1's limit for headers."""


class FirstBytes(asyncio.Protocol):
    """Reads until it is clear who is speaking, and hands the connection over."""

    def __init__(
        self,
        http1: Callable[[], asyncio.Protocol],
        http2: Callable[[], asyncio.Protocol],
        undecided: set[FirstBytes] | None = None,
    ) -> None:
        """`undecided`: where it is listed until it has handed over, for a server that counts and ends its connections."""
        self._choices = {True: http2, False: http1}
        self._undecided: set[FirstBytes] = set() if undecided is None else undecided
        self._transport: asyncio.Transport | None = None
        self._begun = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(_WAIT_S, self._transport.abort)
        self._undecided.add(self)

    def data_received(self, data: bytes) -> None:
        self._begun += data
        if len(self._begun) < len(PREFACE) and PREFACE.startswith(self._begun):
            return
        assert self._transport is not None, "made before data comes"
        self._stop_waiting()
        protocol = self._choices[self._begun.startswith(PREFACE)]()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._begun)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # The name that asyncio calls it by.
        self._stop_waiting()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _stop_waiting(self) -> None:
        self._undecided.discard(self)
        if self._timer is not None:
            self._timer.cancel()
