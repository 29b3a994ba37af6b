"""Keeps PodAutoscalers and ServerlessServices in step with what the autoscaler reports. All go by their revision's name."""

from __future__ import annotations

from controller.api.core import Endpoints
from controller.api.knative import PodAutoscaler, Revision, ServerlessService
from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.kube.resources import SERVERLESS_SERVICES
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Child, Key, Outcome
from onebox.knative.autoscaler.report import ScaleBoard
from onebox.knative.carrying import Carrier, Observed
from onebox.knative.names import private_service_name
from onebox.knative.pod_autoscaler.plan import ScaleSnapshot, plan_pod_autoscaler, plan_serverless_service
from onebox.knative.world import World, name_of, namespace_of


class PodAutoscalerReconciler:
    """Looks at one revision's PodAutoscaler and ServerlessService."""

    def __init__(
        self, world: World, autoscalers: Carrier, services: Carrier, clock: Clock, *, board: ScaleBoard
    ) -> None:
        self._world = world
        self._autoscalers = autoscalers
        self._services = services
        self._clock = clock
        self._board = board

    def watch(self, controller: Controller) -> None:
        """Names what brings a pair back. Endpoints do not: whatever changes with them, the autoscaler reports."""
        for informer in (self._world.pod_autoscalers, self._world.serverless_services):
            controller.watch(informer, lambda obj: [Key(namespace_of(obj), name_of(obj))])
        self._board.subscribe(lambda namespace, revision: controller.enqueue(Key(namespace, revision)))

    async def reconcile(self, key: Key) -> Outcome:
        outcome = await self._autoscalers.reconcile(key, self._observe_autoscaler)
        await self._services.reconcile(key, self._observe_service)
        return outcome

    def _observe_autoscaler(self, key: Key) -> Observed | None:
        stored, snapshot = self._world.pod_autoscalers.get(*key), self._snapshot(key)
        if stored is None or snapshot is None:
            return None
        service = self._world.serverless_services.get(*key)
        existing = self._world.typed.of(ServerlessService, service) if service is not None else None
        children = (Child(resource=SERVERLESS_SERVICES, manifest=service),) if service is not None else ()
        return Observed(owner=stored, plan=plan_pod_autoscaler(snapshot, existing), children=children)

    def _observe_service(self, key: Key) -> Observed | None:
        stored, snapshot = self._world.serverless_services.get(*key), self._snapshot(key)
        if stored is None or snapshot is None or "deletionTimestamp" in stored["metadata"]:
            return None
        return Observed(
            owner=stored, plan=plan_serverless_service(snapshot, self._world.typed.of(ServerlessService, stored))
        )

    def _snapshot(self, key: Key) -> ScaleSnapshot | None:
        revision = self._world.revisions.get(*key)
        autoscaler = self._world.pod_autoscalers.get(*key)
        if revision is None or autoscaler is None or _is_going(revision) or _is_going(autoscaler):
            return None
        pods = self._world.endpoints.get(key.namespace, private_service_name(key.name))
        return ScaleSnapshot(
            revision=self._world.typed.of(Revision, revision),
            settings=self._world.settings(),
            report=self._board.of(key.namespace, key.name),
            pods=self._world.typed.of(Endpoints, pods) if pods is not None else None,
            autoscaler=self._world.typed.of(PodAutoscaler, autoscaler),
            now_s=self._clock.wall_s(),
        )


def _is_going(obj: JsonView) -> bool:
    return "deletionTimestamp" in obj["metadata"]
