"""Brings Revisions to their plans."""

from __future__ import annotations

from collections.abc import Iterator

from controller.api.core import Deployment, Endpoints, Pod
from controller.api.knative import Revision
from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.base.names import REVISION_LABEL
from controller.kube.resources import DEPLOYMENTS, ENDPOINTS, POD_AUTOSCALERS, SERVICES, ResourceType
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Child, Key, Outcome
from onebox.knative.autoscaler.report import ScaleBoard
from onebox.knative.carrying import Carrier, Observed
from onebox.knative.names import deployment_name, private_service_name
from onebox.knative.revision.plan import RevisionSnapshot, plan_revision
from onebox.knative.revision.status import Workload, build_refused_status
from onebox.knative.world import BY_PRIVATE_SERVICE, BY_REVISION, World, index_key, name_of, namespace_of


class RevisionReconciler:
    """Looks at one Revision, what runs for it, and what the autoscaler says of it."""

    def __init__(self, world: World, carrier: Carrier, clock: Clock, *, board: ScaleBoard, activator_port: int) -> None:
        self._world = world
        self._carrier = carrier
        self._clock = clock
        self._board = board
        self._activator_port = activator_port

    def watch(self, controller: Controller) -> None:
        """Names what brings a Revision back."""
        controller.watch(self._world.revisions, lambda obj: [Key(namespace_of(obj), name_of(obj))])
        for informer in (self._world.deployments, self._world.pods, self._world.services):
            controller.watch(informer, _revision_of)
        controller.watch(self._world.endpoints, self._revision_behind)
        self._board.subscribe(lambda namespace, revision: controller.enqueue(Key(namespace, revision)))

    async def reconcile(self, key: Key) -> Outcome:
        return await self._carrier.reconcile(key, self.observe)

    def observe(self, key: Key) -> Observed | None:
        stored = self._world.revisions.get(*key)
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            return None
        deployment = self._world.deployments.get(key.namespace, deployment_name(key.name))
        pods = self._world.pods.indexed(BY_REVISION, index_key(stored, key.name))
        private = self._world.endpoints.get(key.namespace, private_service_name(key.name))
        typed = self._world.typed
        snapshot = RevisionSnapshot(
            revision=typed.of(Revision, stored),
            settings=self._world.settings(),
            workload=Workload(
                deployment=typed.of(Deployment, deployment) if deployment is not None else None,
                pods=tuple(typed.of(Pod, pod) for pod in pods),
                report=self._board.of(key.namespace, key.name),
            ),
            pods=typed.of(Endpoints, private) if private is not None else None,
            deployment=deployment,
            public=self._world.endpoints.get(*key),
            activator_port=self._activator_port,
            now_s=self._clock.wall_s(),
        )
        return Observed(
            owner=stored,
            plan=plan_revision(snapshot),
            children=tuple(self._children(key)),
            if_refused=lambda message: build_refused_status(snapshot.revision, message, now_s=snapshot.now_s),
        )

    def _children(self, key: Key) -> Iterator[Child]:
        places: tuple[tuple[ResourceType, str], ...] = (
            (DEPLOYMENTS, deployment_name(key.name)),
            (POD_AUTOSCALERS, key.name),
            (SERVICES, key.name),
            (SERVICES, private_service_name(key.name)),
            (ENDPOINTS, key.name),
        )
        for resource, name in places:
            found = self._world.informers[resource].get(key.namespace, name)
            if found is not None:
                yield Child(resource=resource, manifest=found)

    def _revision_behind(self, endpoints: JsonView) -> Iterator[Key]:
        """The Revision whose public or private Service these are the Endpoints of."""
        yield Key(namespace_of(endpoints), name_of(endpoints))
        private = index_key(endpoints, name_of(endpoints))
        for revision in self._world.revisions.indexed(BY_PRIVATE_SERVICE, private):
            yield Key(namespace_of(revision), name_of(revision))


def _revision_of(child: JsonView) -> list[Key]:
    name = (child["metadata"].get("labels") or {}).get(REVISION_LABEL)
    return [Key(namespace_of(child), name)] if name else []
