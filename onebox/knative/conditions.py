"""Knative's living condition set: how the conditions that a resource depends on make up its Ready (pure).

Ready copies the dependent that failed last; where none failed, the one that became unknown last; and is True only where
every dependent is True. A condition that Ready does not depend on is informational: it carries severity Info and changes
nothing else. `lastTransitionTime` moves only where something else of the condition moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.api.meta import Condition
from controller.base.clock import parse_rfc3339, rfc3339

READY = "Ready"
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
_INFO = "Info"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A condition and when it became what it is: the second, and the step within this pass."""

    condition: Condition
    since: tuple[float, int]


class LivingConditions:
    """The conditions of one resource while a plan is made; `Ready` follows each change."""

    def __init__(self, dependents: Iterable[str], current: Iterable[Condition], *, now_s: float) -> None:
        self._dependents = tuple(dependents)
        self._now_s = now_s
        self._step = 0
        self._before = {condition.type: condition for condition in current}
        self._entries = {type_: _Entry(condition, _since(condition)) for type_, condition in self._before.items()}
        self._initialize()

    def __getitem__(self, type_: str) -> Condition | None:
        entry = self._entries.get(type_)
        return entry.condition if entry else None

    def status(self, type_: str) -> str:
        """True, False or Unknown; Unknown where there is no such condition."""
        condition = self[type_]
        return condition.status if condition else UNKNOWN

    def mark_true(self, type_: str, reason: str = "", message: str = "") -> None:
        self._set(type_, TRUE, reason, message)
        if unhappy := self._unhappy():
            self._set(READY, unhappy.status, unhappy.reason or "", unhappy.message or "")
        elif type_ != READY:
            self._set(READY, TRUE)

    def mark_false(self, type_: str, reason: str, message: str = "") -> None:
        self._set(type_, FALSE, reason, message)
        if type_ in self._dependents:
            self._set(READY, FALSE, reason, message)

    def mark_unknown(self, type_: str, reason: str = "", message: str = "") -> None:
        self._set(type_, UNKNOWN, reason, message)
        if type_ not in self._dependents:
            return
        failed = self._latest(FALSE)
        if failed is None:
            self._set(READY, UNKNOWN, reason, message)
        elif self.status(READY) != FALSE:
            self._set(READY, FALSE, failed.reason or "", failed.message or "")

    def mark(self, type_: str, status: str, reason: str = "", message: str = "") -> None:
        """Marks by a status that was read from another resource."""
        if status == TRUE:
            self.mark_true(type_, reason, message)
        elif status == FALSE:
            self.mark_false(type_, reason, message)
        else:
            self.mark_unknown(type_, reason, message)

    def result(self) -> list[Condition]:
        """All conditions by type; one that is as before keeps its time, even if it changed in between."""
        return [self._settled(entry.condition) for _, entry in sorted(self._entries.items())]

    def _initialize(self) -> None:
        if READY not in self._entries:
            self._set(READY, UNKNOWN)
        # A resource that is ready while it lacks a dependent comes from an older version, which had it implicitly.
        status = TRUE if self.status(READY) == TRUE else UNKNOWN
        for type_ in self._dependents:
            if type_ not in self._entries:
                self._set(type_, status)

    def _set(self, type_: str, status: str, reason: str = "", message: str = "") -> None:
        condition = self._condition(type_, status, reason, message)
        current = self._entries.get(type_)
        if current and _same(current.condition, condition):
            return
        self._step += 1
        self._entries[type_] = _Entry(condition, (self._now_s, self._step))

    def _condition(self, type_: str, status: str, reason: str, message: str) -> Condition:
        fields = {"type": type_, "status": status, "lastTransitionTime": rfc3339(self._now_s)}
        if type_ != READY and type_ not in self._dependents:
            fields["severity"] = _INFO
        if reason:
            fields["reason"] = reason
        if message:
            fields["message"] = message
        return Condition.model_validate(fields)

    def _unhappy(self) -> Condition | None:
        return self._latest(FALSE) or self._latest(UNKNOWN)

    def _latest(self, status: str) -> Condition | None:
        found = [entry for type_ in self._dependents if (entry := self._entries[type_]).condition.status == status]
        return max(found, key=lambda entry: entry.since).condition if found else None

    def _settled(self, condition: Condition) -> Condition:
        before = self._before.get(condition.type)
        return before if before and _same(before, condition) else condition


def _same(one: Condition, other: Condition) -> bool:
    fields = ("type", "status", "severity", "reason", "message")
    return all((getattr(one, field) or "") == (getattr(other, field) or "") for field in fields)


def _since(condition: Condition) -> tuple[float, int]:
    text = condition.lastTransitionTime
    return (parse_rfc3339(text) if text else 0.0, 0)
