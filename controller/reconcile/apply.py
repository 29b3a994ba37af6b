"""Carries out the writes of a plan, in order, and shows the caches what came of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import assert_never

import orjson

from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.kube.client import KubeClient
from controller.kube.events import EventRecorder
from controller.kube.informer import Informer
from controller.kube.resources import ResourceType, resource_type_of
from controller.reconcile.diff import Apply, Delete, Finalizers, Status, Tell, Write, differs
from controller.reconcile.plan import Child

SETTLED_MAX = 10_000
"""Children remembered as settled; several for each of 1,000 objects. Forgetting one costs one idle write."""

log = get_logger(__name__)


class Applier:
    """Writes in the name of one field manager.

    A child that still differs right after it was applied has fields that its server fills in by itself. It counts as
    settled until what we want or its generation changes, so such a server costs one idle write and not one per reconcile.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        field_manager: str,
        informers: Mapping[ResourceType, Informer],
        events: EventRecorder | None = None,
    ) -> None:
        self._client = client
        self._field_manager = field_manager
        self._informers = informers
        self._events = events
        self._settled: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    async def execute(self, owner: JsonView, writes: Iterable[Write]) -> None:
        """Carries out `writes`; the first that fails ends it, and the next reconcile plans anew."""
        for write in writes:
            match write:
                case Apply():
                    await self._apply(write.child)
                case Delete():
                    await self._client.delete(write.resource, write.name, write.namespace, uid=write.uid)
                    log.info("deleted", kind=write.resource.kind, namespace=write.namespace, object=write.name)
                case Status():
                    await self._patch_owner(owner, write.patch, subresource="status")
                case Finalizers():
                    meta = {"finalizers": list(write.finalizers), "resourceVersion": write.resource_version}
                    await self._patch_owner(owner, {"metadata": meta})
                case Tell():
                    await self._tell(owner, write)
                case _:
                    assert_never(write)

    async def _apply(self, child: Child) -> None:
        meta = child.manifest["metadata"]
        informer = self._informers.get(child.resource)
        known = informer.get(meta.get("namespace") or "", meta["name"]) if informer else None
        if known is not None and self._settled.get(_identity(known)) == _digest(child.manifest):
            return
        stored = await self._client.apply(child.resource, child.manifest, field_manager=self._field_manager)
        log.info("applied", kind=child.resource.kind, namespace=meta.get("namespace"), object=meta["name"])
        self._remember(child.resource, stored)
        if differs(child.manifest, stored, field_manager=self._field_manager):
            self._settled[_identity(stored)] = _digest(child.manifest)
            if len(self._settled) > SETTLED_MAX:
                self._settled.popitem(last=False)

    async def _patch_owner(self, owner: JsonView, patch: JsonView, subresource: str | None = None) -> None:
        resource, meta = resource_type_of(owner["apiVersion"], owner["kind"]), owner["metadata"]
        stored = await self._client.patch(
            resource,
            meta["name"],
            meta.get("namespace"),
            patch,
            subresource=subresource,
            field_manager=self._field_manager,
        )
        self._remember(resource, stored)

    async def _tell(self, owner: JsonView, write: Tell) -> None:
        if self._events is not None:
            event = write.event
            await self._events.record(owner, type_=event.type, reason=event.reason, message=event.message)

    def _remember(self, resource: ResourceType, stored: JsonView) -> None:
        informer = self._informers.get(resource)
        if informer is not None:
            informer.remember(stored)


def _identity(live: JsonView) -> tuple[str, int]:
    return str(live["metadata"].get("uid")), int(live["metadata"].get("generation") or 0)


def _digest(manifest: JsonView) -> bytes:
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).digest()
