"""Brings Routes to their plans, and keeps the marks that they leave on revisions and Configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from controller.api.knative import Configuration, Revision, Route
from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.base.names import CONFIGURATION_LABEL, ROUTE_LABEL
from controller.kube.client import KubeClient
from controller.kube.resources import SERVICES, VIRTUAL_SERVICES
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Child, Key, Outcome
from onebox.knative.carrying import Carrier, Observed
from onebox.knative.names import FIELD_MANAGER, INGRESS_LABEL, ROLLOUT_ANNOTATION, virtual_service_name
from onebox.knative.route.plan import RouteSnapshot, plan_route
from onebox.knative.route.rollout import parse_rollout
from onebox.knative.route.routing import RoutingSnapshot, plan_routing
from onebox.knative.world import (
    BY_ROUTE,
    BY_TARGET,
    World,
    index_key,
    name_of,
    namespace_of,
    route_in,
    routes_named_by,
)

MISSING_S = 5.0
"""How long a Route has to be missing before its marks go; many times what a Service needs to make its Route. A guess."""


class Gateway(Protocol):
    """What tells whether requests follow a VirtualService as it is stored."""

    def is_live(self, virtual_service: JsonView) -> bool: ...

    def refusal_of(self, uid: str, generation: int) -> str:
        """Why this generation of the VirtualService with this uid is not served; empty where nothing is wrong with it."""
        ...

    def subscribe(self, on_live: Callable[[str, str], None]) -> None:
        """Calls `on_live` with namespace and name of each VirtualService whose answer to `is_live` may have changed."""
        ...


class RouteReconciler:
    """Looks at one Route, and at what its traffic names."""

    def __init__(self, world: World, carrier: Carrier, clock: Clock, *, gateway: Gateway, gateway_port: int) -> None:
        self._world = world
        self._carrier = carrier
        self._clock = clock
        self._gateway = gateway
        self._gateway_port = gateway_port

    def watch(self, controller: Controller) -> None:
        """Names what brings a Route back."""
        controller.watch(self._world.routes, lambda obj: [Key(namespace_of(obj), name_of(obj))])
        for informer in (self._world.configurations, self._world.revisions):
            controller.watch(informer, self.routes_to)
        controller.watch(self._world.services, _route_of_service)
        controller.watch(self._world.virtual_services, _route_of_virtual_service)
        self._gateway.subscribe(lambda namespace, name: self._on_live(controller, namespace, name))

    async def reconcile(self, key: Key) -> Outcome:
        return await self._carrier.reconcile(key, self.observe)

    def observe(self, key: Key) -> Observed | None:
        stored = self._world.routes.get(*key)
        if stored is None or stored["metadata"].get("deletionTimestamp"):
            return None
        virtual_service = self._world.virtual_services.get(key.namespace, virtual_service_name(key.name))
        snapshot = RouteSnapshot(
            route=self._world.typed.of(Route, stored),
            settings=self._world.settings(),
            gateway_port=self._gateway_port,
            configurations=self._world.configurations_in(key.namespace),
            revisions=self._world.revisions_in(key.namespace),
            services=self._world.services_in(key.namespace),
            live=virtual_service is not None and self._gateway.is_live(virtual_service),
            refusal=self._refusal_of(virtual_service),
            rollout=parse_rollout(_annotation(virtual_service, ROLLOUT_ANNOTATION)),
            now_s=self._clock.wall_s(),
        )
        return Observed(
            owner=stored, plan=plan_route(snapshot), children=tuple(self._children(stored, virtual_service))
        )

    def routes_to(self, target: JsonView) -> Iterator[Key]:
        """The Routes whose traffic names this Configuration or Revision, or the Revision's Configuration."""
        names = {name_of(target), (target["metadata"].get("labels") or {}).get(CONFIGURATION_LABEL)}
        for name in filter(None, names):
            for route in self._world.routes.indexed(BY_TARGET, index_key(target, name)):
                yield Key(namespace_of(route), name_of(route))

    def _children(self, route: JsonView, virtual_service: JsonView | None) -> Iterator[Child]:
        if virtual_service is not None:
            yield Child(resource=VIRTUAL_SERVICES, manifest=virtual_service)
        # Placeholders of tags that are gone are among these, and go as well.
        services = {
            name_of(found): found for found in self._world.services.indexed(BY_ROUTE, index_key(route, name_of(route)))
        }
        own = self._world.services.get(namespace_of(route), name_of(route))
        if own is not None:
            services[name_of(own)] = own
        yield from (Child(resource=SERVICES, manifest=found) for found in services.values())

    def _refusal_of(self, virtual_service: JsonView | None) -> str:
        if virtual_service is None:
            return ""
        meta = virtual_service["metadata"]
        return self._gateway.refusal_of(meta["uid"], int(meta.get("generation") or 1))

    def _on_live(self, controller: Controller, namespace: str, name: str) -> None:
        stored = self._world.virtual_services.get(namespace, name)
        for key in _route_of_virtual_service(stored) if stored is not None else ():
            controller.enqueue(key)


class RoutingReconciler:
    """Writes down on revisions and Configurations which Routes need them."""

    def __init__(self, client: KubeClient, world: World, routes: RouteReconciler, clock: Clock) -> None:
        self._client = client
        self._world = world
        self._routes = routes
        self._clock = clock
        self._missing_since_s: dict[Key, float] = {}

    def watch(self, controller: Controller) -> None:
        """Names what brings a Route's marks back; marks of a Route that no longer exists do as well."""
        controller.watch(self._world.routes, lambda obj: [Key(namespace_of(obj), name_of(obj))])
        for informer in (self._world.configurations, self._world.revisions):
            controller.watch(informer, self._routes_of)

    async def reconcile(self, key: Key) -> Outcome:
        snapshot = self._snapshot(key)
        wait_s = self._wait_s(key, snapshot.route is None)
        if wait_s > 0:
            return Outcome(requeue_after_s=wait_s)
        for patch in plan_routing(snapshot):
            stored = await self._client.patch(
                patch.resource, patch.name, patch.namespace, patch.patch, field_manager=FIELD_MANAGER
            )
            self._world.informers[patch.resource].remember(stored)
        return Outcome()

    def _wait_s(self, key: Key, missing: bool) -> float:
        """How long the marks of a missing Route still stay: a Configuration is marked before its Route is made."""
        place = f"{key.namespace}/{key.name}"
        marked = self._world.configurations.indexed(BY_ROUTE, place) or self._world.revisions.indexed(BY_ROUTE, place)
        if not missing or not marked:
            self._missing_since_s.pop(key, None)
            return 0.0
        since_s = self._missing_since_s.setdefault(key, self._clock.monotonic_s())
        return max(0.0, since_s + MISSING_S - self._clock.monotonic_s())

    def _snapshot(self, key: Key) -> RoutingSnapshot:
        place = f"{key.namespace}/{key.name}"
        return RoutingSnapshot(
            namespace=key.namespace,
            name=key.name,
            route=route_in(self._world, *key),
            configurations=self._world.configurations_in(key.namespace),
            revisions=self._world.revisions_in(key.namespace),
            marked_configurations=tuple(
                self._world.typed.of(Configuration, found)
                for found in self._world.configurations.indexed(BY_ROUTE, place)
            ),
            marked_revisions=tuple(
                self._world.typed.of(Revision, found) for found in self._world.revisions.indexed(BY_ROUTE, place)
            ),
            now_s=self._clock.wall_s(),
        )

    def _routes_of(self, target: JsonView) -> Iterable[Key]:
        named = (place.partition("/") for place in routes_named_by(target))
        yield from (Key(namespace, name) for namespace, _, name in named)
        yield from self._routes.routes_to(target)


def _annotation(stored: JsonView | None, key: str) -> str:
    return "" if stored is None else (stored["metadata"].get("annotations") or {}).get(key, "")


def _route_of_service(service: JsonView) -> list[Key]:
    name = (service["metadata"].get("labels") or {}).get(ROUTE_LABEL)
    # A stranger with a placeholder's name matters as well: its end makes the name free.
    return [Key(namespace_of(service), found) for found in {name, name_of(service)} if found]


def _route_of_virtual_service(virtual_service: JsonView) -> list[Key]:
    name = (virtual_service["metadata"].get("labels") or {}).get(INGRESS_LABEL)
    return [Key(namespace_of(virtual_service), name)] if name else []
