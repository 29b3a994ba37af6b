"""Time as a value that is passed in, so that tests own it; the library's only reader of the machine's clock.

Durations come from `monotonic_s`; `wall_s` is only for timestamps that people or other programs read.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed point; never runs backwards."""
        ...

    def wall_s(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's own clock."""

    # The functions themselves, not methods around them: a server reads the clock several times a request.
    monotonic_s = staticmethod(time.monotonic)
    wall_s = staticmethod(time.time)
