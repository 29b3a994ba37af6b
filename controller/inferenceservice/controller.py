"""Brings InferenceServices to what their specs say: reads the world, asks the plan, writes the difference.

All decisions are in plan.py. What is here is only about writing little: progress that decides nothing is written at most so
often.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from pydantic import ValidationError

from controller.api.field_errors import type_errors
from controller.api.inferenceservice import InferenceServiceStatus
from controller.base.clock import Clock
from controller.base.errors import Invalid, UserError
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.inferenceservice.conditions import FALSE, PREDICTOR_READY, READY, UNKNOWN
from controller.inferenceservice.identity_reader import IdentityReader
from controller.inferenceservice.plan import plan_inference_service
from controller.inferenceservice.snapshot import Snapshot
from controller.inferenceservice.world import World, owner_keys, pod_keys
from controller.reconcile.apply import Applier
from controller.reconcile.controller import Controller
from controller.reconcile.diff import Apply, Comparisons, Status, Write, plan_writes
from controller.reconcile.plan import Key, Outcome, Plan

FIELD_MANAGER: Final = "ladle-inferenceservice"

PROGRESS_PAUSE_S: Final = 0.5
"""Shortest time between two status writes that only show progress. A start from a warm template takes less (design.md 7), so
it costs no such write at all; people do not read faster."""

IDENTITY_RECHECK_S: Final = 60.0
"""When the secrets that a service uses are read again: nothing tells of their changes. A guess; kubelets take as long."""
MISSING_IDENTITY_RECHECK_S: Final = 3.0
"""The same while a service cannot be made: somebody may be about to create what is missing. A guess."""

log = get_logger(__name__)


class InferenceServiceReconciler:
    """The reconcile function of InferenceServices."""

    def __init__(self, world: World, identities: IdentityReader, applier: Applier, clock: Clock) -> None:
        self._world = world
        self._identities = identities
        self._applier = applier
        self._clock = clock
        self._comparisons = Comparisons(FIELD_MANAGER)
        self._written_s: dict[Key, float] = {}
        """When a service's status was written last."""

    def watch(self, controller: Controller) -> None:
        """Lets `controller` reconcile whatever a change may concern."""
        world = self._world
        controller.watch(world.services, lambda item: (Key(item["metadata"]["namespace"], item["metadata"]["name"]),))
        for informer in world.children.values():
            controller.watch(informer, owner_keys)
        controller.watch(world.pods, pod_keys)
        for informer in world.shared:
            controller.watch(informer, lambda _: world.service_keys())

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one service; writes nothing where all is as it should be."""
        manifest = self._world.services.get(*key)
        if manifest is None:
            self._written_s.pop(key, None)
            return Outcome()
        try:
            snapshot = await self._with_identities(self._world.snapshot(manifest))
        except ValidationError as error:
            raise Invalid(type_errors(error)) from None
        try:
            snapshot, plan = await self._write_children(key, manifest, snapshot)
            wait_s = await self._carry_out(key, manifest, snapshot, plan)
        except UserError as error:
            await self._refuse(key, snapshot, error)
            raise
        waits_s = [wait for wait in (wait_s, plan.requeue_after_s, _recheck_s(snapshot, plan)) if wait]
        return Outcome(requeue_after_s=min(waits_s, default=None))

    async def _with_identities(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the accounts and secrets that its plan will ask for."""
        try:
            return replace(snapshot, identities=await self._identities.read(snapshot))
        except UserError as error:
            return replace(snapshot, refusal=snapshot.refusal or error)

    async def _write_children(self, key: Key, manifest: JsonView, snapshot: Snapshot) -> tuple[Snapshot, Plan]:
        """Applies the children that differ; returns what is to be seen after that, and what is left to do.

        A status that was made of what children said before would call an old revision the new specification's.
        """
        plan = plan_inference_service(snapshot)
        writes = plan_writes(plan, manifest, self._world.live_children(key, plan), self._comparisons)
        applies = [write for write in writes if isinstance(write, Apply)]
        if not applies:
            return snapshot, plan
        await self._applier.execute(manifest, applies)
        after = self._world.snapshot(manifest)
        after = replace(after, identities=snapshot.identities, refusal=after.refusal or snapshot.refusal)
        return after, plan_inference_service(after)

    async def _carry_out(self, key: Key, manifest: JsonView, snapshot: Snapshot, plan: Plan) -> float:
        """Writes what differs; returns how long what was held back should wait, 0 for nothing."""
        writes = plan_writes(plan, manifest, self._world.live_children(key, plan), self._comparisons)
        wait_s = self._progress_wait_s(key, snapshot, plan, writes)
        if wait_s > 0:
            writes = tuple(write for write in writes if not isinstance(write, Status))
        await self._applier.execute(manifest, writes)
        if any(isinstance(write, Status) for write in writes):
            self._written_s[key] = self._clock.monotonic_s()
        return wait_s

    async def _refuse(self, key: Key, snapshot: Snapshot, error: UserError) -> None:
        """Shows in the status why a child cannot be written."""
        refusal = UserError("ReconcileFailed", f"fails to reconcile: {error}")
        plan = plan_inference_service(replace(snapshot, refusal=refusal))
        manifest = self._world.services.get(*key)
        if manifest is None:
            return
        log.info("blocked", namespace=key.namespace, service=key.name, error=str(error))
        writes = plan_writes(replace(plan, children=(), keep_children=True), manifest, (), self._comparisons)
        await self._applier.execute(manifest, writes)

    def _progress_wait_s(self, key: Key, snapshot: Snapshot, plan: Plan, writes: tuple[Write, ...]) -> float:
        """How long a status that decides nothing has to wait; 0 if it is written now."""
        if plan.status is None or plan.events or not any(isinstance(write, Status) for write in writes):
            return 0.0
        before, after = snapshot.service.status, InferenceServiceStatus.parse(plan.status)
        if not before.conditions:
            # A new service: what it waits for is seldom worth a write, for it seldom waits for long.
            written_s = self._written_s.setdefault(key, self._clock.monotonic_s())
            decides = _verdict(after) != _WAITING
        else:
            written_s = self._written_s.get(key, -math.inf)
            decides = _verdict(before) != _verdict(after)
        if decides:
            return 0.0
        return max(0.0, written_s + PROGRESS_PAUSE_S - self._clock.monotonic_s())


def _recheck_s(snapshot: Snapshot, plan: Plan) -> float | None:
    """When to look at secrets and service accounts again; None for a service without any."""
    if not snapshot.identities.accounts and not snapshot.identities.secrets:
        return None
    is_blocked = plan.keep_children and not plan.children
    return MISSING_IDENTITY_RECHECK_S if is_blocked else IDENTITY_RECHECK_S


_WAITING: Final = (UNKNOWN, None, None)
"""The verdict on a service of which nothing is known yet."""


def _verdict(status: InferenceServiceStatus) -> tuple[object, ...]:
    """The part of a status that people and programs act on at once: whether it is ready, and what has failed."""
    ready, predictor = status.condition(READY), status.condition(PREDICTOR_READY)
    failed = predictor is not None and predictor.status == FALSE
    failure = status.modelStatus.lastFailureInfo
    return (
        ready.status if ready is not None else None,
        predictor.reason if failed and predictor is not None else None,
        failure.message if failure is not None else None,
    )
