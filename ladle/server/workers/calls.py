"""What one worker asked of all, until all have answered: the parent's bookkeeping, without sockets or processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ladle.clock import Clock
from ladle.server.metrics import ServerMetrics

COLLECT_PERIOD_S = 2.0
"""How often the parent asks for metrics itself: a worker that is killed takes at most this much of its counts along."""
_COLLECT_TIMEOUT_S = 60.0
METRICS = "metrics"


class Line(Protocol):
    """A way to tell a worker something."""

    def send(self, message: Mapping[str, Any]) -> None: ...


@dataclass(slots=True)
class _Call:
    what: str
    model: str
    origin: int | None
    """The worker that asked; None for the parent itself."""
    number: int
    """Of the question, as its asker counts."""
    until_s: float
    pending: set[int]
    outcomes: list[Mapping[str, Any]] = field(default_factory=list)


class Calls:
    """The questions that are open, and what the answers taught the parent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[int, _Call] = {}
        self._last = 0
        self._snapshots: dict[int, Any] = {}
        """The last metrics of each living worker."""
        self._ended = ServerMetrics()
        """The sum of those of the dead: counters must not fall when a worker is replaced."""
        self._collect_s = 0.0
        self._living: Mapping[int, Line] = {}
        self.unloaded: set[str] = set()
        """Models that were let go; a worker that comes later does not load them."""

    def handle(self, index: int, message: Mapping[str, Any], living: Mapping[int, Line]) -> None:
        """A message of worker `index`."""
        self._living = living
        if "ask" in message:
            self._begin(message["what"], message["model"], message["timeout_s"], origin=index, number=message["ask"])
        else:
            self._settle(index, message)

    def forget(self, index: int, living: Mapping[int, Line]) -> None:
        """Worker `index` is gone: nobody waits for it, and its counts stay."""
        self._living = living
        snapshot = self._snapshots.pop(index, None)
        if snapshot is not None:
            self._ended.absorb(snapshot, lasting_only=True)
        for call_id, call in list(self._open.items()):
            call.pending.discard(index)
            self._finish_if_complete(call_id, call)

    def collect(self, living: Mapping[int, Line]) -> None:
        """Asks for metrics now and then."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._collect_s:
            self._living = living
            self._collect_s = now_s + COLLECT_PERIOD_S
            if not any(call.origin is None for call in self._open.values()):
                self._begin(METRICS, "", _COLLECT_TIMEOUT_S, origin=None, number=0)

    def give_up(self) -> None:
        """Answers what has taken too long with what there is."""
        now_s = self._clock.monotonic_s()
        for call_id, call in list(self._open.items()):
            if now_s >= call.until_s:
                call.pending.clear()
                self._finish_if_complete(call_id, call)

    def _begin(self, what: str, model: str, timeout_s: float, *, origin: int | None, number: int) -> None:
        self._last += 1
        until_s = self._clock.monotonic_s() + timeout_s
        call = self._open[self._last] = _Call(what, model, origin, number, until_s, set(self._living))
        for line in self._living.values():
            line.send({"do": self._last, "what": what, "model": model})
        self._finish_if_complete(self._last, call)

    def _settle(self, index: int, message: Mapping[str, Any]) -> None:
        call_id = message["done"]
        call = self._open.get(call_id)
        if call is None or index not in call.pending:
            return
        call.pending.discard(index)
        if call.what == METRICS and "result" in message:
            self._snapshots[index] = message["result"]
        else:
            call.outcomes.append({key: message[key] for key in ("result", "error") if key in message})
        self._finish_if_complete(call_id, call)

    def _finish_if_complete(self, call_id: int, call: _Call) -> None:
        if call.pending:
            return
        del self._open[call_id]
        if all("error" not in outcome for outcome in call.outcomes):
            self._learn(call)
        asker = self._living.get(call.origin) if call.origin is not None else None
        if asker is not None:
            asker.send({"answer": call.number, "outcomes": self._outcomes(call)})

    def _outcomes(self, call: _Call) -> list[Mapping[str, Any]]:
        """For metrics, the last ones of everybody: those of a worker too busy to answer are a little old."""
        if call.what != METRICS:
            return call.outcomes
        return [{"result": found} for found in (*self._snapshots.values(), self._ended.dump())]

    def _learn(self, call: _Call) -> None:
        if call.what == "unload":
            self.unloaded.add(call.model)
        elif call.what == "load":
            self.unloaded.discard(call.model)
