"""Endpoints: which pods stand behind each Service with a selector, and on which ports they really listen.

All pods share 127.0.0.1, and the node gives every container port a loopback port of its own, so one pod is one subset: its
ports are the pod's, taken from the annotation that the node wrote. A pod without that annotation has no address yet; one
that terminates has none any more, however ready it says it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import orjson

from controller.api.core import Container, Pod, Service, ServicePort
from controller.base.clock import Clock
from controller.base.json import JsonObject, JsonView
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.informer import Informer
from controller.kube.resources import ENDPOINTS
from controller.kube.typed import TypedObjects
from controller.reconcile.controller import Controller
from controller.reconcile.plan import Key, Outcome
from onebox.workloads.pods import NODE_NAME

PORTS_ANNOTATION = "onebox.ladle.dev/ports"
"""JSON on a pod: container port -> loopback port. The node writes it before the pod's processes start."""
MANAGED_BY = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
"""Kubernetes' label on Endpoints that its controller writes; those without it are somebody else's."""
FIELD_MANAGER = "endpoint-controller"
WORKERS = 4
EMPTY_SETTLE_S = 1.0
"""How long a new Service without a ready pod waits for its Endpoints: most get one meanwhile, and a write is saved. A guess;
no request can use such Endpoints, but people expect to see them."""
_SELECTOR_INDEX, _LABEL_INDEX = "selector", "label"
_FINISHED = ("Succeeded", "Failed")


def build_subsets(service: Service, pods: Iterable[Pod]) -> list[JsonObject]:
    """The subsets of the Service's Endpoints, ordered by pod name, so that the same pods give the same object."""
    subsets = (_subset(service, pod) for pod in sorted(pods, key=lambda pod: pod.metadata.name))
    return [subset for subset in subsets if subset is not None]


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a Service with this selector stands before pods with these labels; an empty selector selects none."""
    return bool(selector) and selector.items() <= labels.items()


def _subset(service: Service, pod: Pod) -> JsonObject | None:
    ports = _ports(service.spec.ports, pod)
    finished = pod.status.phase in _FINISHED
    if pod.metadata.deletionTimestamp or finished or not pod.status.podIP or (service.spec.ports and not ports):
        return None
    meta = pod.metadata
    target = {"kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}
    address = {"ip": pod.status.podIP, "nodeName": pod.spec.nodeName or NODE_NAME, "targetRef": target}
    serves = pod.is_ready or service.spec.publishNotReadyAddresses
    return {"addresses" if serves else "notReadyAddresses": [address], **({"ports": ports} if ports else {})}


def _ports(service_ports: Sequence[ServicePort], pod: Pod) -> list[JsonObject]:
    mapped = parse_ports(pod)
    found: list[JsonObject] = []
    for port in service_ports:
        number = _container_port(port, pod)
        if number is None or number not in mapped:
            continue  # As in Kubernetes: a port that this pod does not have is left out.
        named = {"name": port.name} if port.name else {}
        protocol = {"appProtocol": port.appProtocol} if port.appProtocol else {}
        found.append({**named, "port": mapped[number], "protocol": port.protocol, **protocol})
    return found


def parse_ports(pod: Pod) -> dict[int, int]:
    """The loopback port of each container port; {} while the node has not given any, or wrote nonsense."""
    try:
        written = orjson.loads(pod.metadata.annotations.get(PORTS_ANNOTATION, "{}"))
        return {int(number): int(mapped) for number, mapped in written.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _container_port(port: ServicePort, pod: Pod) -> int | None:
    target = port.port if port.targetPort in (None, 0, "") else port.targetPort
    if isinstance(target, int):
        return target
    return _named_port(str(target), port.protocol, pod.spec.containers)


def _named_port(name: str, protocol: str, containers: Iterable[Container]) -> int | None:
    for container in containers:
        for port in container.ports:
            if port.name == name and port.protocol == protocol:
                return port.containerPort
    return None


class EndpointsController:
    """Keeps the Endpoints of every Service with a selector, and removes those of Services that are gone."""

    def __init__(
        self,
        client: KubeClient,
        *,
        services: Informer,
        pods: Informer,
        endpoints: Informer,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._client = client
        self._services = services
        self._pods = pods
        self._endpoints = endpoints
        self._clock = clock
        self._typed = TypedObjects()
        self._empty_since_s: dict[Key, float] = {}
        """Since when (monotonic) a Service has neither Endpoints nor a ready pod to write there."""
        services.add_index(_SELECTOR_INDEX, _selector_keys_of)
        pods.add_index(_LABEL_INDEX, _label_keys)
        self.loop = Controller("endpoints", self.reconcile, workers=WORKERS, clock=clock, rng=rng)
        self.loop.watch(services, _own_key)
        self.loop.watch(pods, self._services_of)
        self.loop.watch(endpoints, lambda item: _own_key(item) if _is_managed(item) else ())

    async def reconcile(self, key: Key) -> Outcome:
        """Brings the Endpoints of one Service to what its pods are."""
        stored = self._services.get(*key)
        known = self._endpoints.get(*key)
        if stored is None:
            self._empty_since_s.pop(key, None)
            if known is not None:
                await self._client.delete(ENDPOINTS, key.name, key.namespace, uid=known["metadata"]["uid"])
            return Outcome()
        service = self._typed.of(Service, stored)
        if not service.spec.selector or service.spec.type == "ExternalName":
            return Outcome()  # Whoever made a Service without a selector writes its Endpoints.
        subsets = build_subsets(service, self._selected(service))
        serves = any("addresses" in subset for subset in subsets)
        if known is None and not serves and (wait_s := self._wait_for_pods_s(key)) > 0:
            return Outcome(requeue_after_s=wait_s)
        self._empty_since_s.pop(key, None)
        await self._write(service, subsets, known)
        return Outcome()

    def _wait_for_pods_s(self, key: Key) -> float:
        now_s = self._clock.monotonic_s()
        return self._empty_since_s.setdefault(key, now_s) + EMPTY_SETTLE_S - now_s

    def _selected(self, service: Service) -> list[Pod]:
        namespace, selector = service.metadata.namespace, service.spec.selector
        return [
            self._typed.of(Pod, item)
            for key in _selector_keys(namespace, selector)
            for item in self._pods.indexed(_LABEL_INDEX, key)
            if selects(selector, item["metadata"].get("labels") or {})
        ]

    async def _write(self, service: Service, subsets: list[JsonObject], known: JsonView | None) -> None:
        meta = service.metadata
        if known is not None:
            if (known.get("subsets") or []) == subsets:
                return
            try:
                patch = {"subsets": subsets or None}
                answer = await self._client.patch(
                    ENDPOINTS, meta.name, meta.namespace, patch, field_manager=FIELD_MANAGER
                )
                self._endpoints.remember(answer)
                return
            except NotFound:
                pass  # Deleted by somebody since the cache last heard of it.
        labels = {**meta.labels, **MANAGED_BY}
        identity = {"name": meta.name, "namespace": meta.namespace, "labels": labels}
        body = {"apiVersion": "v1", "kind": "Endpoints", "metadata": identity, "subsets": subsets}
        self._endpoints.remember(await self._client.create(ENDPOINTS, body))

    def _services_of(self, pod: JsonView) -> list[Key]:
        labels = pod["metadata"].get("labels") or {}
        found: list[Key] = []
        for key in _label_keys(pod):
            for service in self._services.indexed(_SELECTOR_INDEX, key):
                if selects(service["spec"]["selector"], labels):
                    found += _own_key(service)
        return found


def _selector_keys_of(service: JsonView) -> list[str]:
    return _selector_keys(service["metadata"]["namespace"], (service.get("spec") or {}).get("selector") or {})


def _selector_keys(namespace: str, selector: Mapping[str, str]) -> list[str]:
    # One entry is enough to find it; the rest of the selector is compared then.
    return [f"{namespace}/{name}={value}" for name, value in sorted(selector.items())[:1]]


def _label_keys(pod: JsonView) -> list[str]:
    labels = pod["metadata"].get("labels") or {}
    return [f"{pod['metadata']['namespace']}/{name}={value}" for name, value in labels.items()]


def _own_key(item: JsonView) -> list[Key]:
    return [Key(item["metadata"]["namespace"], item["metadata"]["name"])]


def _is_managed(item: JsonView) -> bool:
    return MANAGED_BY.items() <= (item["metadata"].get("labels") or {}).items()
