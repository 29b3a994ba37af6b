"""Brings Configurations to their plans, and clears away revisions that nobody needs any more."""

from __future__ import annotations

from controller.api.knative import Configuration, Revision
from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.base.names import CONFIGURATION_LABEL
from controller.kube.client import KubeClient
from controller.kube.resources import REVISIONS
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome
from onebox.knative.carrying import Carrier, Observed
from onebox.knative.configuration.collection import plan_collection
from onebox.knative.configuration.plan import ConfigurationSnapshot, build_refused_status, plan_configuration
from onebox.knative.world import BY_CONFIGURATION, World, index_key, name_of, namespace_of

log = get_logger(__name__)


class ConfigurationReconciler:
    """Looks at one Configuration and its revisions."""

    def __init__(self, world: World, carrier: Carrier, clock: Clock) -> None:
        self._world = world
        self._carrier = carrier
        self._clock = clock

    def watch(self, controller: Controller) -> None:
        """Names what brings a Configuration back."""
        controller.watch(self._world.configurations, lambda obj: [Key(namespace_of(obj), name_of(obj))])
        controller.watch(self._world.revisions, _configuration_of)

    async def reconcile(self, key: Key) -> Outcome:
        return await self._carrier.reconcile(key, self.observe)

    def observe(self, key: Key) -> Observed | None:
        stored = self._world.configurations.get(*key)
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            return None
        configuration = self._world.typed.of(Configuration, stored)
        revisions = self._world.revisions.indexed(BY_CONFIGURATION, index_key(stored, key.name))
        chosen = configuration.spec.template.metadata.name
        snapshot = ConfigurationSnapshot(
            configuration=configuration,
            revisions=tuple(self._world.typed.of(Revision, found) for found in revisions),
            named=self._world.revisions_in(key.namespace).get(chosen) if chosen else None,
            now_s=self._clock.wall_s(),
        )
        # No live children: a revision is created and never changed, and older ones stay.
        return Observed(
            owner=stored,
            plan=plan_configuration(snapshot),
            if_refused=lambda message: build_refused_status(configuration, message, now_s=snapshot.now_s),
        )


class CollectionReconciler:
    """Deletes the revisions of a Configuration that have outlived their use."""

    def __init__(self, client: KubeClient, world: World, clock: Clock) -> None:
        self._client = client
        self._world = world
        self._clock = clock

    def watch(self, controller: Controller) -> None:
        """Names what brings a Configuration back."""
        controller.watch(self._world.configurations, lambda obj: [Key(namespace_of(obj), name_of(obj))])
        controller.watch(self._world.revisions, _configuration_of)

    async def reconcile(self, key: Key) -> Outcome:
        stored = self._world.configurations.get(*key)
        if stored is None:
            return Outcome()
        found = self._world.revisions.indexed(BY_CONFIGURATION, index_key(stored, key.name))
        if len(found) <= self._world.settings().collection.kept_min:
            return Outcome()  # Nearly always: nothing needs to be parsed.
        collection = plan_collection(
            self._world.typed.of(Configuration, stored),
            [self._world.typed.of(Revision, revision) for revision in found],
            self._world.settings().collection,
            now_s=self._clock.wall_s(),
        )
        for revision in collection.revisions:
            meta = revision.metadata
            await self._client.delete(REVISIONS, meta.name, meta.namespace, uid=meta.uid)
            log.info("collected", namespace=meta.namespace, revision=meta.name)
        return Outcome(requeue_after_s=collection.again_after_s)


def _configuration_of(revision: JsonView) -> list[Key]:
    name = (revision["metadata"].get("labels") or {}).get(CONFIGURATION_LABEL)
    return [Key(namespace_of(revision), name)] if name else []
