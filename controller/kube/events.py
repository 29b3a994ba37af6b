"""Events for people: what a controller did to an object, as `kubectl describe` shows it.

A repeated event is one object whose count grows. Its name follows from what it says, so a restarted controller counts on
instead of starting anew.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from controller.api.meta import Resource
from controller.base.clock import Clock, rfc3339
from controller.base.json import JsonObject, JsonView
from controller.base.logging import get_logger
from controller.kube.client import KubeClient
from controller.kube.errors import AlreadyExists, ApiError, NotFound
from controller.kube.resources import EVENTS

MESSAGE_LENGTH_MAX = 1024
"""Characters of an event's message; Kubernetes' API refuses longer ones."""
REMEMBERED_MAX = 4096
"""Events whose count is kept in memory, as many as Kubernetes' own recorder keeps."""

log = get_logger(__name__)


class EventRecorder:
    """Records events in the name of one component. Failing to do so is logged and never stops the work itself."""

    def __init__(self, client: KubeClient, component: str, clock: Clock) -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def record(self, regarding: Resource | JsonView, *, reason: str, message: str, type_: str = "Normal") -> None:
        """Writes an event about this object, or raises the count of the same one; `type_` is Normal or Warning."""
        about = regarding.to_json() if isinstance(regarding, Resource) else regarding
        event = build_event(about, component=self._component, type_=type_, reason=reason, message=message)
        now = rfc3339(self._clock.wall_s())
        try:
            await self._write({**event, "firstTimestamp": now, "lastTimestamp": now, "count": 1})
        except ApiError as error:
            log.warning("event not recorded", reason=reason, error=str(error))

    async def _write(self, event: JsonObject) -> None:
        name, namespace = event["metadata"]["name"], event["metadata"]["namespace"]
        if name not in self._counts:
            try:
                await self._client.create(EVENTS, event)
                self._remember(name, 1)
                return
            except AlreadyExists:
                stored = await self._client.get(EVENTS, name, namespace)
                self._remember(name, int(stored.get("count") or 1))
        count = self._counts[name] + 1
        try:
            await self._client.patch(EVENTS, name, namespace, {"count": count, "lastTimestamp": event["lastTimestamp"]})
        except NotFound:  # Events expire.
            await self._client.create(EVENTS, event)
            count = 1
        self._remember(name, count)

    def _remember(self, name: str, count: int) -> None:
        self._counts[name] = count
        self._counts.move_to_end(name)
        if len(self._counts) > REMEMBERED_MAX:
            self._counts.popitem(last=False)


def build_event(about: JsonView, *, component: str, type_: str, reason: str, message: str) -> JsonObject:
    """The Event about this object, without its times and count; the same input gives the same name."""
    meta = about["metadata"]
    message = message[:MESSAGE_LENGTH_MAX]
    says = "\n".join((meta.get("uid") or "", component, type_, reason, message))
    digest = hashlib.sha256(says.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            # 236 + "." + 16 characters: the longest name that Kubernetes allows.
            "name": f"{meta['name'][:236]}.{digest}",
            # Events about cluster-scoped objects live in the namespace default.
            "namespace": meta.get("namespace") or "default",
        },
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": meta["name"],
            **({"namespace": meta["namespace"]} if meta.get("namespace") else {}),
            **({"uid": meta["uid"]} if meta.get("uid") else {}),
            **({"resourceVersion": meta["resourceVersion"]} if meta.get("resourceVersion") else {}),
        },
        "type": type_,
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "reportingComponent": component,
    }
