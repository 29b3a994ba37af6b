"""How many requests a container works on at once, and how many may wait for that.

Knative's numbers: containerConcurrency run, ten times as many wait, the rest is refused; 0 means no limit. Those that wait
are admitted in the order they came, which Knative does not promise. Not thread-safe: one loop owns a breaker.
"""

from __future__ import annotations

from typing import Protocol

QUEUE_FACTOR = 10
"""Waiting requests for each running one; a constant of Knative's queue-proxy."""


class Entrant(Protocol):
    """Something that wants in; identity counts."""

    def admit(self) -> None:
        """It may run now. Called once, from `enter` or later from another one's `leave`; must not raise."""
        ...


class Breaker:
    """At most `capacity` entrants inside, at most `QUEUE_FACTOR * capacity` waiting."""

    def __init__(self, capacity: int) -> None:
        if capacity < 0:
            raise ValueError(f"capacity = {capacity}, must be at least 0")
        self.capacity = capacity
        self.queue_depth_max = QUEUE_FACTOR * capacity
        self._inside: set[Entrant] = set()
        # An ordered set: one that gives up in the middle leaves in constant time.
        self._waiting: dict[Entrant, None] = {}

    @property
    def running(self) -> int:
        return len(self._inside)

    @property
    def queue_depth(self) -> int:
        return len(self._waiting)

    def enter(self, entrant: Entrant) -> bool:
        """Admits now, or queues; False where the queue is full and the entrant has to go."""
        if not self.capacity or len(self._inside) < self.capacity:
            self._inside.add(entrant)
            entrant.admit()
            return True
        if len(self._waiting) >= self.queue_depth_max:
            return False
        self._waiting[entrant] = None
        return True

    def leave(self, entrant: Entrant) -> None:
        """Ends a stay or a wait; harmless for one that is neither inside nor waiting."""
        if entrant in self._inside:
            self._inside.remove(entrant)
            self._admit_next()
        else:
            self._waiting.pop(entrant, None)

    def _admit_next(self) -> None:
        if self._waiting and len(self._inside) < self.capacity:
            entrant = next(iter(self._waiting))
            del self._waiting[entrant]
            self._inside.add(entrant)
            entrant.admit()
