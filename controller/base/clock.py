"""Time as a value that is passed in, so that tests and the simulation own it.

Durations come from `monotonic_s`; `wall_s` is only for timestamps that people or other programs read.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
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
    """The machine's own clock; the only place in the project that reads it."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()


def rfc3339(wall_s: float) -> str:
    """`wall_s` as Kubernetes writes `metav1.Time`: UTC, whole seconds, `2026-11-21T08:00:00Z`."""
    return _rfc3339(int(wall_s))


@lru_cache(maxsize=16)  # One plan writes the same second into a dozen conditions.
def _rfc3339(wall_s: int) -> str:
    return datetime.fromtimestamp(wall_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(wall_s: float) -> str:
    """`wall_s` as Kubernetes writes `metav1.MicroTime` (leases, events): UTC, six decimals."""
    return datetime.fromtimestamp(wall_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """The Unix time in seconds of a Kubernetes timestamp; ValueError where `text` is none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
