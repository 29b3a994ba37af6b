"""The live copies of everything that Knative's reconcilers look at, shared by all of them, and read as types."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from controller.api.core import ConfigMap, Service
from controller.api.knative import Configuration, Revision, Route
from controller.api.meta import Resource
from controller.base.clock import Clock
from controller.base.errors import UserError
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.base.names import CONFIGURATION_LABEL, REVISION_LABEL, ROUTE_LABEL
from controller.kube.client import KubeClient
from controller.kube.informer import Informer, Keep
from controller.kube.resources import (
    CONFIG_MAPS,
    CONFIGURATIONS,
    DEPLOYMENTS,
    ENDPOINTS,
    KNATIVE_SERVICES,
    POD_AUTOSCALERS,
    PODS,
    REVISIONS,
    ROUTES,
    SERVERLESS_SERVICES,
    SERVICES,
    VIRTUAL_SERVICES,
    ResourceType,
)
from controller.kube.typed import TypedObjects
from onebox.knative.names import FIELD_MANAGER, ROUTES_ANNOTATION, private_service_name
from onebox.knative.settings import CONFIG_NAMESPACE, ServingSettings, parse_settings

BY_CONFIGURATION, BY_REVISION, BY_ROUTE, BY_TARGET = "configuration", "revision", "route", "target"
"""Indexes: objects by the label of the Configuration, Revision or Route they belong to; Routes by what they lead to."""
BY_PRIVATE_SERVICE = "private service"
"""Index of Revisions by the name of their private Service."""

log = get_logger(__name__)

Kind = TypeVar("Kind", bound=Resource)


class TypedLookup(Generic[Kind]):
    """Objects of one namespace by name, parsed when they are asked for."""

    def __init__(self, typed: TypedObjects, informer: Informer, model: type[Kind], namespace: str) -> None:
        self._typed = typed
        self._informer = informer
        self._model = model
        self._namespace = namespace

    def get(self, name: str) -> Kind | None:
        found = self._informer.get(self._namespace, name)
        return self._typed.of(self._model, found) if found is not None else None


class World:
    """One informer for each kind; `informers` are to be run by whoever owns the world."""

    def __init__(self, client: KubeClient, clock: Clock, rng: random.Random) -> None:
        def informer(
            resource: ResourceType, *, namespace: str | None = None, label: str = "", keep: Keep | None = None
        ) -> Informer:
            return Informer(
                client,
                resource,
                namespace=namespace,
                label_selector=label,
                clock=clock,
                rng=rng,
                keep=keep or _with_own_fields,
            )

        self.knative_services = informer(KNATIVE_SERVICES, keep=_without_managed_fields)
        self.configurations = informer(CONFIGURATIONS)
        self.revisions = informer(REVISIONS)
        self.routes = informer(ROUTES)
        self.pod_autoscalers = informer(POD_AUTOSCALERS)
        self.serverless_services = informer(SERVERLESS_SERVICES)
        self.virtual_services = informer(VIRTUAL_SERVICES)
        self.services = informer(SERVICES)
        self.endpoints = informer(ENDPOINTS)
        self.deployments = informer(DEPLOYMENTS, label=REVISION_LABEL)
        self.pods = informer(PODS, label=REVISION_LABEL, keep=_without_spec)
        self.config_maps = informer(CONFIG_MAPS, namespace=CONFIG_NAMESPACE, keep=_without_managed_fields)
        self.informers: dict[ResourceType, Informer] = {
            found.resource: found for found in vars(self).values() if isinstance(found, Informer)
        }
        self.typed = TypedObjects()
        self._settings = ServingSettings()
        self._settings_of: tuple[JsonView, ...] = ()
        self._add_indexes()

    def settings(self) -> ServingSettings:
        """The settings that are stored now; where they cannot be read, the last ones that could."""
        stored = tuple(self.config_maps.items(CONFIG_NAMESPACE))
        # Informers hand out a new object for each change, so that identity tells whether anything is new.
        if len(stored) != len(self._settings_of) or any(
            a is not b for a, b in zip(stored, self._settings_of, strict=True)
        ):
            self._settings_of = stored
            self._read(stored)
        return self._settings

    def configurations_in(self, namespace: str) -> TypedLookup[Configuration]:
        return TypedLookup(self.typed, self.configurations, Configuration, namespace)

    def revisions_in(self, namespace: str) -> TypedLookup[Revision]:
        return TypedLookup(self.typed, self.revisions, Revision, namespace)

    def services_in(self, namespace: str) -> TypedLookup[Service]:
        return TypedLookup(self.typed, self.services, Service, namespace)

    def _read(self, stored: Iterable[JsonView]) -> None:
        maps = [ConfigMap.parse(found) for found in stored]
        try:
            self._settings = parse_settings({found.metadata.name: found.data for found in maps})
        except UserError as error:
            log.warning("settings ignored", cause=str(error))

    def _add_indexes(self) -> None:
        self.revisions.add_index(BY_CONFIGURATION, lambda obj: by_label(obj, CONFIGURATION_LABEL))
        self.revisions.add_index(BY_ROUTE, routes_named_by)
        self.revisions.add_index(BY_PRIVATE_SERVICE, lambda obj: [index_key(obj, private_service_name(name_of(obj)))])
        self.configurations.add_index(BY_ROUTE, routes_named_by)
        self.pods.add_index(BY_REVISION, lambda obj: by_label(obj, REVISION_LABEL))
        self.services.add_index(BY_ROUTE, lambda obj: by_label(obj, ROUTE_LABEL))
        self.routes.add_index(BY_TARGET, _targets)


def _without_managed_fields(obj: JsonView) -> JsonView:
    # Who wrote what is half of an object, and tells nothing about one that nobody here applies.
    return {**obj, "metadata": {name: value for name, value in obj["metadata"].items() if name != "managedFields"}}


def _with_own_fields(obj: JsonView) -> JsonView:
    # What we applied says what to take back; what others wrote is as large again, and nobody here asks for it.
    entries = obj["metadata"].get("managedFields") or ()
    own = [entry for entry in entries if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"]
    return {**obj, "metadata": {**obj["metadata"], "managedFields": own}}


def _without_spec(obj: JsonView) -> JsonView:
    return {name: value for name, value in _without_managed_fields(obj).items() if name != "spec"}


def name_of(obj: JsonView) -> str:
    name: str = obj["metadata"]["name"]
    return name


def namespace_of(obj: JsonView) -> str:
    namespace: str = obj["metadata"].get("namespace") or ""
    return namespace


def index_key(obj: JsonView, name: str) -> str:
    """The key of an index for something called `name` in the object's namespace."""
    return f"{namespace_of(obj)}/{name}"


def by_label(obj: JsonView, label: str) -> list[str]:
    """The index key of what the label names, if it is there."""
    name = (obj["metadata"].get("labels") or {}).get(label)
    return [index_key(obj, name)] if name else []


def routes_named_by(obj: JsonView) -> list[str]:
    """The index keys of the Routes that a Revision or Configuration says it belongs to."""
    annotation = (obj["metadata"].get("annotations") or {}).get(ROUTES_ANNOTATION, "")
    return [index_key(obj, name) for name in annotation.split(",") if name]


def _targets(route: JsonView) -> Iterator[str]:
    """Everything that a Route's traffic names; a name may mean a Configuration or a Revision."""
    spec, status = route.get("spec") or {}, route.get("status") or {}
    names = {
        target.get(field)
        for target in (*(spec.get("traffic") or ()), *(status.get("traffic") or ()))
        for field in ("configurationName", "revisionName")
    }
    yield from (index_key(route, name) for name in sorted(filter(None, names)))


def route_in(world: World, namespace: str, name: str) -> Route | None:
    """The Route, unless it is gone or going."""
    found = world.routes.get(namespace, name)
    return (
        world.typed.of(Route, found) if found is not None and not found["metadata"].get("deletionTimestamp") else None
    )
