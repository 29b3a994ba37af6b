"""What the controller knows of the cluster: live copies of the kinds that an InferenceService depends on.

Reads come from here and never from the API server, but for secrets and service accounts (identity_reader.py). A snapshot is
put together synchronously, so it shows one moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from controller.api import knative
from controller.api.config_text import CONFIG_NAME
from controller.api.core import ConfigMap, Pod
from controller.api.inferenceservice import KIND
from controller.api.istio import VirtualService
from controller.api.servingruntime import ClusterStorageContainer, ServingRuntime
from controller.base.clock import Clock
from controller.base.errors import UserError
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.base.names import ISVC_LABEL
from controller.inferenceservice.ca_bundle import COPY_NAME, CaBundle, ca_bundle_for
from controller.inferenceservice.config import KNATIVE_CONFIG_NAMES, Settings, parse_settings
from controller.inferenceservice.snapshot import Snapshot, parse_service, refusal_of
from controller.kube.client import KubeClient
from controller.kube.informer import Change, ChangeKind, Informer
from controller.kube.resources import (
    CLUSTER_SERVING_RUNTIMES,
    CLUSTER_STORAGE_CONTAINERS,
    CONFIG_MAPS,
    INFERENCE_SERVICES,
    KNATIVE_SERVICES,
    PODS,
    SERVICES,
    SERVING_RUNTIMES,
    VIRTUAL_SERVICES,
    ResourceType,
)
from controller.kube.typed import TypedObjects
from controller.reconcile.plan import Child, Key, Plan

CHILD_KINDS: Final = (KNATIVE_SERVICES, SERVICES, VIRTUAL_SERVICES)
"""What a service's children are, beside the copy of the certificate authorities."""
_OWNER_INDEX: Final = "owner"
_SERVICE_INDEX: Final = "service"

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespaces:
    """Where the config maps are."""

    kserve: str = "kserve"
    knative: str = "knative-serving"


class World:
    """All informers of the controller, and what is read from them."""

    def __init__(self, client: KubeClient, *, namespaces: Namespaces, clock: Clock, rng: random.Random) -> None:
        def informer(
            resource: ResourceType, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
        ) -> Informer:
            return Informer(
                client,
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                clock=clock,
                rng=rng,
            )

        self._namespaces = namespaces
        self._clock = clock
        self.services = informer(INFERENCE_SERVICES)
        self.children = {resource: informer(resource) for resource in CHILD_KINDS}
        self.children[CONFIG_MAPS] = informer(CONFIG_MAPS, field_selector=f"metadata.name={COPY_NAME}")
        self.pods = informer(PODS, label_selector=ISVC_LABEL)
        self.runtimes = informer(SERVING_RUNTIMES)
        self.cluster_runtimes = informer(CLUSTER_SERVING_RUNTIMES)
        self.storage_containers = informer(CLUSTER_STORAGE_CONTAINERS)
        self.kserve_config = informer(CONFIG_MAPS, namespace=namespaces.kserve)
        self.knative_config = informer(CONFIG_MAPS, namespace=namespaces.knative)
        for child in self.children.values():
            child.add_index(_OWNER_INDEX, lambda item: (_path(key) for key in owner_keys(item)))
        self.pods.add_index(_SERVICE_INDEX, lambda item: (_path(key) for key in pod_keys(item)))
        self._parsed_settings: tuple[tuple[str, ...], Settings] = ((), Settings())
        self._typed = TypedObjects()
        self._parsed: dict[str, tuple[str, object]] = {}
        for shared in self.shared:
            shared.subscribe(self._forget_deleted)

    @property
    def informers(self) -> tuple[Informer, ...]:
        return (*self.by_resource.values(), self.pods, *self.shared)

    @property
    def by_resource(self) -> dict[ResourceType, Informer]:
        """Those of kinds that the controller writes."""
        return {INFERENCE_SERVICES: self.services, **self.children}

    @property
    def shared(self) -> tuple[Informer, ...]:
        """Those of kinds on which every service may depend."""
        return (
            self.runtimes, self.cluster_runtimes, self.storage_containers, self.kserve_config, self.knative_config,
        )  # fmt: skip

    def service_keys(self) -> Iterator[Key]:
        """The keys of all services."""
        for item in self.services.items():
            yield Key(item["metadata"]["namespace"], item["metadata"]["name"])

    def snapshot(self, manifest: JsonView) -> Snapshot:
        """What a decision about the InferenceService `manifest` may look at, as of now.

        UserError in `refusal` where the settings cannot be read or admission would refuse the service; pydantic's
        ValidationError where it cannot be read.
        """
        refusal = None
        try:
            settings = self._settings()
        except UserError as error:  # It blocks every service, and each should say so.
            settings, refusal = Settings(), error
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        service = parse_service(manifest, settings)
        refusal = refusal or refusal_of(service, settings)
        virtual_service = self.children[VIRTUAL_SERVICES].get(namespace, name)
        owned = self.children[KNATIVE_SERVICES].indexed(_OWNER_INDEX, _path(Key(namespace, name)))
        pods = self.pods.indexed(_SERVICE_INDEX, _path(Key(namespace, name)))
        runtimes = (*self.runtimes.items(namespace), *self.cluster_runtimes.items())
        return Snapshot(
            service=service,
            runtimes=tuple(self._once(item, ServingRuntime.parse) for item in runtimes),
            storage_containers=tuple(
                self._once(item, ClusterStorageContainer.parse) for item in self.storage_containers.items()
            ),
            knative_services={item["metadata"]["name"]: self._typed.of(knative.Service, item) for item in owned},
            virtual_service=self._typed.of(VirtualService, virtual_service) if virtual_service is not None else None,
            pods=tuple(self._typed.of(Pod, item) for item in pods),
            ca_bundle=self._ca_bundle(namespace, settings),
            settings=settings,
            now_s=self._clock.wall_s(),
            refusal=refusal,
        )

    def live_children(self, key: Key, plan: Plan) -> list[Child]:
        """The objects that a service controls, and those that stand where its children should."""
        found = {
            (resource, item["metadata"]["name"]): Child(resource=resource, manifest=item)
            for resource, informer in self.children.items()
            for item in informer.indexed(_OWNER_INDEX, _path(key))
        }
        for child in plan.children:
            name = child.manifest["metadata"]["name"]
            item = self.children[child.resource].get(key.namespace, name)
            if item is not None:
                found.setdefault((child.resource, name), Child(resource=child.resource, manifest=item))
        return list(found.values())

    def _ca_bundle(self, namespace: str, settings: Settings) -> CaBundle | None:
        name, kserve = settings.storage_initializer.ca_bundle_config_map, self._namespaces.kserve
        original = self.kserve_config.get(kserve, name) if name else None
        data = (original or {}).get("data")
        return ca_bundle_for(namespace, name, kserve_namespace=kserve, data=data)

    def _settings(self) -> Settings:
        kserve = self.kserve_config.get(self._namespaces.kserve, CONFIG_NAME)
        maps = {name: self.knative_config.get(self._namespaces.knative, name) for name in KNATIVE_CONFIG_NAMES}
        version = tuple(str(item["metadata"]["resourceVersion"]) if item else "" for item in (kserve, *maps.values()))
        if self._parsed_settings[0] != version:
            parsed = {name: ConfigMap.parse(item) for name, item in maps.items() if item is not None}
            settings = parse_settings(ConfigMap.parse(kserve) if kserve is not None else None, parsed)
            if settings.idle != self._parsed_settings[1].idle:
                for item in settings.idle:
                    log.warning("setting without effect", setting=item.name, value=item.value, why=item.why)
            self._parsed_settings = version, settings
        return self._parsed_settings[1]

    def _forget_deleted(self, change: Change) -> None:
        if change.kind is ChangeKind.DELETED:
            self._parsed.pop(change.object["metadata"]["uid"], None)

    def _once(self, manifest: JsonView, parse: Callable[[JsonView], T]) -> T:
        """The typed form of an object that all services look at and that seldom changes."""
        uid, version = manifest["metadata"]["uid"], manifest["metadata"]["resourceVersion"]
        known = self._parsed.get(uid)
        if known is not None and known[0] == version:
            return known[1]  # type: ignore[return-value]  # A uid has one kind, hence one parser.
        value = parse(manifest)
        self._parsed[uid] = version, value
        return value


def owner_keys(manifest: JsonView) -> Iterator[Key]:
    """The InferenceService that controls an object."""
    for reference in manifest["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference.get("kind") == KIND:
            yield Key(manifest["metadata"].get("namespace") or "", reference["name"])


def pod_keys(manifest: JsonView) -> Iterator[Key]:
    """The InferenceService that a pod belongs to."""
    name = (manifest["metadata"].get("labels") or {}).get(ISVC_LABEL)
    if name:
        yield Key(manifest["metadata"].get("namespace") or "", name)


def _path(key: Key) -> str:
    return f"{key.namespace}/{key.name}"
