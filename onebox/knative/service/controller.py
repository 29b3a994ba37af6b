"""Brings Knative Services to their plans."""

from __future__ import annotations

from controller.api.knative import Configuration, Route, Service
from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.base.names import KSVC_LABEL
from controller.kube.resources import CONFIGURATIONS, ROUTES
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Child, Key, Outcome
from onebox.knative.carrying import Carrier, Observed
from onebox.knative.service.plan import ServiceSnapshot, plan_service
from onebox.knative.world import World, name_of, namespace_of


class ServiceReconciler:
    """Looks at one Service and its two children."""

    def __init__(self, world: World, carrier: Carrier, clock: Clock) -> None:
        self._world = world
        self._carrier = carrier
        self._clock = clock

    def watch(self, controller: Controller) -> None:
        """Names what brings a Service back."""
        controller.watch(self._world.knative_services, lambda obj: [Key(namespace_of(obj), name_of(obj))])
        for informer in (self._world.configurations, self._world.routes):
            controller.watch(informer, _service_of)

    async def reconcile(self, key: Key) -> Outcome:
        return await self._carrier.reconcile(key, self.observe)

    def observe(self, key: Key) -> Observed | None:
        stored = self._world.knative_services.get(*key)
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            return None
        service = self._world.typed.of(Service, stored)
        configuration, route = self._world.configurations.get(*key), self._world.routes.get(*key)
        chosen = service.spec.template.metadata.name
        snapshot = ServiceSnapshot(
            service=service,
            configuration=self._world.typed.of(Configuration, configuration) if configuration is not None else None,
            route=self._world.typed.of(Route, route) if route is not None else None,
            named=self._world.revisions_in(key.namespace).get(chosen) if chosen else None,
            now_s=self._clock.wall_s(),
        )
        plan = plan_service(snapshot)
        # A Service has its two children for life: what is not planned now (a Route that must wait) is not to be deleted.
        planned = {child.resource for child in plan.children}
        live = ((CONFIGURATIONS, configuration), (ROUTES, route))
        children = [
            Child(resource=resource, manifest=found)
            for resource, found in live
            if found is not None and resource in planned
        ]
        return Observed(owner=stored, plan=plan, children=tuple(children))


def _service_of(child: JsonView) -> list[Key]:
    name = (child["metadata"].get("labels") or {}).get(KSVC_LABEL)
    # A stranger with our child's name matters as well: its end makes the name free.
    return [Key(namespace_of(child), found) for found in {name, name_of(child)} if found]
