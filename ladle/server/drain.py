"""The quiet end of a server: probes fail first, and it stops once nobody sends requests any more.

Knative's queue-proxy does the same with a quiet period of 30 s; where endpoints change in milliseconds, 1 s is enough
(design.md 6.6). A drain that nobody follows with SIGTERM is called off, or a pod would stay unready for ever.
"""

from __future__ import annotations

import asyncio

from ladle.clock import Clock

QUIET_S = 1.0
"""Default of LADLE_DRAIN_QUIET_S."""
RESET_S = 10.0
"""How long after `wait` the SIGTERM has to come; Knative allows 1 s. Longer, for a node that is restarted in between."""


class Drainer:
    """Whether this server is on its way out, and when it has been quiet for long enough."""

    def __init__(self, clock: Clock, *, quiet_s: float = QUIET_S, reset_s: float = RESET_S) -> None:
        self._clock = clock
        self._quiet_s = quiet_s
        self._reset_s = reset_s
        self._last_request_s = 0.0
        self._reset_timer: asyncio.TimerHandle | None = None
        self.draining = False
        self.final = False
        """Whether SIGTERM came: no way back."""

    def touch(self, now_s: float) -> None:
        """A request that is no probe arrived."""
        self._last_request_s = now_s

    def finish(self) -> None:
        """SIGTERM came."""
        self.draining = self.final = True

    async def wait(self) -> None:
        """Starts to drain; returns after the first quiet period without a request."""
        if not self.draining:
            self.draining = True
            self.touch(self._clock.monotonic_s())
        while True:
            left_s = self._last_request_s + self._quiet_s - self._clock.monotonic_s()
            if left_s <= 0:
                break
            await asyncio.sleep(left_s)
        if self._reset_timer is not None:
            self._reset_timer.cancel()
        self._reset_timer = asyncio.get_running_loop().call_later(self._reset_s, self._call_off)

    def _call_off(self) -> None:
        if not self.final:
            self.draining = False
