"""KServe's kinds that are admitted and not built yet: an object of theirs says so in its status, and nothing is made of it.

Silence would be worse than a refusal: somebody would wait for a graph that nobody routes. When a kind is built, its line in
`NOT_BUILT` goes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final

from pydantic import Field, ValidationError

from controller.api.field_errors import type_errors
from controller.api.meta import ApiModel, Condition, Resource
from controller.base.clock import Clock
from controller.base.errors import Invalid
from controller.base.json import JsonView
from controller.inferenceservice.conditions import FALSE, READY, since
from controller.kube.client import KubeClient
from controller.kube.events import EventRecorder
from controller.kube.informer import Informer
from controller.kube.resources import INFERENCE_GRAPHS, TRAINED_MODELS, ResourceType
from controller.reconcile.apply import Applier
from controller.reconcile.controller import Controller
from controller.reconcile.diff import Comparisons, plan_writes
from controller.reconcile.plan import Event, Key, Outcome, Plan

FIELD_MANAGER: Final = "ladle-later-kinds"
NOT_SUPPORTED: Final = "NotSupported"
"""Reason of Ready=False; ours."""
NOT_BUILT: Final[Mapping[ResourceType, str]] = {
    INFERENCE_GRAPHS: "graphs are not routed yet, and nothing answers for this one; call its services one by one, or from a "
    "transformer (docs/guides/transformers.md)",
    TRAINED_MODELS: "servers of several models are not supported yet, and nothing loads this one; serve its storageUri by an "
    "InferenceService of its own",
}
"""What to do instead, kind by kind."""


class _Status(ApiModel):
    conditions: list[Condition] = Field(default_factory=list)


class _Object(Resource):
    status: _Status = Field(default_factory=_Status)


async def run_later_kinds(client: KubeClient, clock: Clock, rng: random.Random) -> None:
    """Watches these kinds and writes their status; returns only by cancellation. A kind that is not installed is waited for."""
    async with asyncio.TaskGroup() as tasks:
        for resource in NOT_BUILT:
            informer = Informer(client, resource, clock=clock, rng=rng)
            reconciler = _Reconciler(client, informer, clock)
            controller = Controller(resource.kind.lower(), reconciler.reconcile, workers=1, clock=clock, rng=rng)
            controller.watch(informer, lambda item: (Key(item["metadata"]["namespace"], item["metadata"]["name"]),))
            tasks.create_task(informer.run())
            tasks.create_task(controller.run())


def plan_later_kind(manifest: JsonView, why: str, now_s: float) -> Plan:
    """The status that says that nothing is made of this object; Invalid where the object cannot be read."""
    try:
        parsed = _Object.parse(manifest)
    except ValidationError as error:
        raise Invalid(type_errors(error)) from None
    if parsed.metadata.deletionTimestamp is not None:
        return Plan(keep_children=True)
    found = Condition(type=READY, status=FALSE, reason=NOT_SUPPORTED, message=why)
    status = {
        "observedGeneration": parsed.metadata.generation,
        "conditions": [since(found, parsed.status.conditions, now_s).to_json()],
    }
    event = Event(type="Warning", reason=NOT_SUPPORTED, message=why)
    return Plan(keep_children=True, status=status, events=(event,))


class _Reconciler:
    def __init__(self, client: KubeClient, informer: Informer, clock: Clock) -> None:
        self._informer = informer
        self._clock = clock
        self._comparisons = Comparisons(FIELD_MANAGER)
        self._applier = Applier(
            client,
            field_manager=FIELD_MANAGER,
            informers={informer.resource: informer},
            events=EventRecorder(client, "ladle-controller", clock),
        )

    async def reconcile(self, key: Key) -> Outcome:
        manifest = self._informer.get(*key)
        if manifest is not None:
            plan = plan_later_kind(manifest, NOT_BUILT[self._informer.resource], self._clock.wall_s())
            await self._applier.execute(manifest, plan_writes(plan, manifest, (), self._comparisons))
        return Outcome()
