"""Says on each VirtualService whether requests are routed by it: Istio's own condition Reconciled.

Istio writes it where its status reporting is on; here it always is, so that whoever made a VirtualService need not guess how
long the gateway takes. A Knative Route's VirtualServices are left out: the Route itself waits for the gateway and says so.
"""

from __future__ import annotations

import random

from controller.api.istio import RECONCILED
from controller.base.clock import Clock, rfc3339
from controller.base.json import JsonObject, JsonView
from controller.kube.client import KubeClient
from controller.kube.errors import Conflict, NotFound
from controller.kube.informer import Informer
from controller.kube.resources import VIRTUAL_SERVICES
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome
from onebox.istio.live import LiveConfig

FIELD_MANAGER = "ladle-gateway"
_WORKERS = 4
"""Statuses written at once; enough to keep the API server busy beside others. A guess."""
_REPORTING_OWNERS = ("Route", "Ingress")
"""Knative's kinds whose own conditions say whether the gateway follows."""


class StatusReconciler:
    """Keeps the status of VirtualServices in step with the gateway."""

    def __init__(self, client: KubeClient, informer: Informer, live: LiveConfig, clock: Clock) -> None:
        self._client = client
        self._informer = informer
        self._live = live
        self._clock = clock

    def controller(self, rng: random.Random) -> Controller:
        """What runs it."""
        made = Controller("virtual-service-status", self.reconcile, workers=_WORKERS, clock=self._clock, rng=rng)
        made.watch(self._informer, lambda item: [Key(item["metadata"]["namespace"], item["metadata"]["name"])])
        self._live.subscribe(lambda namespace, name: made.enqueue(Key(namespace, name)))
        return made

    async def reconcile(self, key: Key) -> Outcome:
        """Writes the status where it differs."""
        stored = self._informer.get(*key)
        if stored is None:
            return Outcome()
        meta = stored["metadata"]
        status = decide_status(
            stored,
            live_generation=self._live.generation_of(meta["uid"]),
            refusal=self._live.refusal_of(meta["uid"], int(meta.get("generation") or 1)),
            now_s=self._clock.wall_s(),
        )
        if status is not None:
            body = {"metadata": {"uid": meta["uid"]}, "status": status}
            try:
                written = await self._client.patch(
                    VIRTUAL_SERVICES, key.name, key.namespace, body, subresource="status", field_manager=FIELD_MANAGER
                )
            except (NotFound, Conflict):
                return Outcome()  # It was deleted or made anew, and that change has its own event.
            self._informer.remember(written)
        return Outcome()


def decide_status(virtual_service: JsonView, *, live_generation: int, refusal: str, now_s: float) -> JsonObject | None:
    """The status that the gateway's word asks for; None where nothing is to be written."""
    meta = virtual_service["metadata"]
    generation = int(meta.get("generation") or 1)
    if any(owner.get("kind") in _REPORTING_OWNERS for owner in meta.get("ownerReferences") or ()):
        return None
    if refusal:
        wanted = {"status": "False", "reason": "RefusedByEnvoy", "message": refusal}
    elif live_generation >= generation:
        wanted = {"status": "True"}
    else:
        return None
    before = virtual_service.get("status") or {}
    known: JsonObject = next((item for item in before.get("conditions") or () if item.get("type") == RECONCILED), {})
    if before.get("observedGeneration") == generation and all(
        known.get(name) == wanted.get(name) for name in ("status", "reason", "message")
    ):
        return None
    same = known.get("status") == wanted["status"]
    since = known.get("lastTransitionTime") if same else None
    condition = {"type": RECONCILED, **wanted, "observedGeneration": generation}
    return {
        "observedGeneration": generation,
        "conditions": [{**condition, "lastTransitionTime": since or rfc3339(now_s)}],
    }
