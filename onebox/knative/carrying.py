"""Carries a plan out: children first, then a status that tells how it is after that; and no status that nobody could read.

Things on one machine happen within milliseconds, so that most "still waiting" would be overwritten before anybody saw it.
A status that only says so waits for a moment; one that says that something works, or that it failed, never does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controller.base.clock import Clock
from controller.base.json import JsonObject, JsonView
from controller.kube.client import KubeClient
from controller.kube.errors import Rejected
from controller.kube.events import EventRecorder
from controller.kube.informer import Informer
from controller.kube.resources import ResourceType
from controller.reconcile.apply import Applier
from controller.reconcile.diff import Apply, Comparisons, Status, Tell, Write, plan_writes
from controller.reconcile.plan import Child, Key, Outcome, Plan
from onebox.knative.conditions import READY, TRUE, UNKNOWN
from onebox.knative.names import FIELD_MANAGER

SETTLE_S = 1.0
"""How long a status that only says "not yet" waits: longer than a warm start, shorter than a person looks. A guess."""
WAKING_S = 0.5
"""How long it waits where the object stays Ready and only something of it begins: a revision that wakes. Its first request
waits for the same processor, and most revisions are awake, with other news, before that. A guess: twice a start from zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One object, what is there of its children, and what was decided about it."""

    owner: JsonView
    plan: Plan
    children: tuple[Child, ...] = ()
    """The live ones: those that stand where planned ones should, and those to be deleted unless they are planned."""
    if_refused: Callable[[str], JsonView] | None = None
    """The status to show when the API server refuses a child, from its message; None: only an event tells."""


Observe = Callable[[Key], Observed | None]
"""Looks at the world and decides; None where the object is gone."""


class Carrier:
    """Carries out the plans for objects of one kind; each kind needs its own."""

    def __init__(
        self,
        client: KubeClient,
        informers: dict[ResourceType, Informer],
        clock: Clock,
        *,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._events = EventRecorder(client, FIELD_MANAGER, clock)
        self._applier = Applier(client, field_manager=FIELD_MANAGER, informers=informers, events=self._events)
        self._comparisons = Comparisons(FIELD_MANAGER)
        self._clock = clock
        self._settle_s = settle_s
        self._waiting_since_s: dict[Key, float] = {}

    async def reconcile(self, key: Key, observe: Observe) -> Outcome:
        """One pass over the object."""
        observed = observe(key)
        writes = _writes(observed, self._comparisons)
        applies = [write for write in writes if isinstance(write, Apply)]
        if observed is not None and applies:
            await self._apply(observed, applies)
            # What a child says after it was changed is what counts: its old status is about its old self.
            observed = observe(key)
            writes = _writes(observed, self._comparisons)
        if observed is None:
            self._waiting_since_s.pop(key, None)
            return Outcome()
        return await self._finish(key, observed, writes)

    async def _apply(self, observed: Observed, applies: Iterable[Write]) -> None:
        try:
            await self._applier.execute(observed.owner, applies)
        except Rejected as error:
            # Nobody reads the log of a controller to find out why an object does not come up.
            await self._events.record(observed.owner, type_="Warning", reason="CreationFailed", message=error.message)
            if observed.if_refused is not None:
                told = Observed(
                    owner=observed.owner, plan=Plan(keep_children=True, status=observed.if_refused(error.message))
                )
                await self._applier.execute(observed.owner, _writes(told, self._comparisons))
            raise

    async def _finish(self, key: Key, observed: Observed, writes: list[Write]) -> Outcome:
        status = observed.plan.status
        if status is None or not any(isinstance(write, Status) for write in writes):
            self._waiting_since_s.pop(key, None)
            wait_s = 0.0
        else:
            since_s = self._waiting_since_s.setdefault(key, self._clock.monotonic_s())
            waited_s = self._clock.monotonic_s() - since_s
            wait_s = decide_wait_s(observed.owner.get("status") or {}, status, waited_s, settle_s=self._settle_s)
        if wait_s > 0:
            writes = [write for write in writes if not isinstance(write, Status | Tell)]
        else:
            self._waiting_since_s.pop(key, None)
        await self._applier.execute(observed.owner, writes)
        return Outcome(requeue_after_s=_sooner(observed.plan.requeue_after_s, wait_s or None))


def decide_wait_s(before: JsonView, after: JsonView, waited_s: float, *, settle_s: float) -> float:
    """How much longer, after `waited_s`, the status `after` waits before it replaces `before`; 0: not at all.

    Only "not yet" waits, `settle_s` in all, and only where it takes no promise back: a Ready of an older generation is not
    left standing.
    """
    outdated = before.get("observedGeneration") != after.get("observedGeneration") and _ready(before) == TRUE
    if outdated:
        return 0.0
    if _ready(after) == UNKNOWN:
        return max(0.0, settle_s - waited_s)
    return max(0.0, WAKING_S - waited_s) if _only_begins(before, after) else 0.0


def _only_begins(before: JsonView, after: JsonView) -> bool:
    """Whether every condition that changed is open now."""
    known = {condition["type"]: condition["status"] for condition in before.get("conditions") or ()}
    found = after.get("conditions") or ()
    changed = [condition["status"] for condition in found if known.get(condition["type"]) != condition["status"]]
    return bool(changed) and all(status == UNKNOWN for status in changed)


def _ready(status: JsonView) -> str:
    conditions: Iterable[JsonObject] = status.get("conditions") or ()
    return next((found["status"] for found in conditions if found["type"] == READY), UNKNOWN)


def _writes(observed: Observed | None, comparisons: Comparisons) -> list[Write]:
    if observed is None:
        return []
    return list(plan_writes(observed.plan, observed.owner, observed.children, comparisons))


def _sooner(one_s: float | None, other_s: float | None) -> float | None:
    found = [delay_s for delay_s in (one_s, other_s) if delay_s is not None]
    return min(found, default=None)
