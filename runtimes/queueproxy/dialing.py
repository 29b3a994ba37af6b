"""Connecting to a container that may just be starting again.

A container that was killed is started again within seconds, and its pod leaves the endpoints only once a probe has seen it.
What comes in between has not been in the killed process; it waits here. Knative's queue-proxy answers 502 at once, and so do
we for a container that never listened: there is nothing to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ladle.clock import Clock

Connection = TypeVar("Connection")

RESTART_S = 8.0
"""Longest wait. The node starts a container again at once after a first crash (1 to 4 s, by the machine), and after a second
one 10 s later, which is not worth waiting for."""
_POLL_S = 0.05
"""Knative's first back-off between two attempts to connect."""


class Dialer:
    """Connects to one container, over whichever protocol."""

    def __init__(self, clock: Clock, *, restart_s: float = RESTART_S) -> None:
        self._clock = clock
        self._restart_s = restart_s
        self._listened = False

    async def connect(self, dial: Callable[[], Awaitable[Connection]]) -> Connection:
        """What `dial` returns; while it is refused by a container that has listened before, it is tried again.

        Raises its OSError: any other at once, ConnectionRefusedError when the wait is over.
        """
        deadline_s = self._clock.monotonic_s() + self._restart_s
        while True:
            try:
                made = await dial()
            except ConnectionRefusedError:
                if not self._listened or self._clock.monotonic_s() > deadline_s:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                self._listened = True
                return made
