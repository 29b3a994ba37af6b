"""Forgets events after an hour, as Kubernetes does: nobody else deletes them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from controller.base.clock import Clock, parse_rfc3339
from controller.base.json import JsonObject, JsonView
from controller.base.logging import get_logger
from onebox.apiserver.objects.encoding import parse_object
from onebox.apiserver.objects.writing import Writer
from onebox.apiserver.requests import Target
from onebox.apiserver.resources.registry import Registry
from onebox.apiserver.storage.records import ChangeType
from onebox.apiserver.storage.store import StorageBusy, Store

log = get_logger(__name__)

EVENT_LIFETIME_S = 3600.0
"""kube-apiserver's --event-ttl."""
_PERIOD_S = 60.0
_BATCH_MAX = 200
"""Events deleted in one round, so that a backlog does not crowd out other writes."""


async def expire_events(store: Store, registry: Registry, writer: Writer, clock: Clock) -> None:
    """Looks for old events once a minute, until cancelled."""
    while True:
        await asyncio.sleep(_PERIOD_S)
        try:
            count = delete_old_events(store, registry, writer, clock.wall_s())
        except StorageBusy:
            continue
        if count:
            log.info("events expired", count=count)


def delete_old_events(store: Store, registry: Registry, writer: Writer, now_s: float) -> int:
    """Queues the deletion of events that nobody has seen again for an hour; returns how many."""
    expired = list(_old_events(store, registry, now_s))[:_BATCH_MAX]
    for target, value in expired:
        writer.put(target, value, ChangeType.DELETED)
    return len(expired)


def _old_events(store: Store, registry: Registry, now_s: float) -> Iterator[tuple[Target, JsonObject]]:
    resource = registry.by_key("events")
    assert resource is not None
    version = resource.versions[resource.storage]
    for record in store.select(resource.key):
        if store.latest(record.key) is not record:
            continue  # A write of it is on its way.
        key = record.key
        target = Target(resource=resource, version=version, namespace=key.namespace, name=key.name)
        value = parse_object(record, target)
        if _last_seen_s(value) < now_s - EVENT_LIFETIME_S:
            yield target, value


def _last_seen_s(event: JsonView) -> float:
    seen = (event.get("series") or {}).get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")
    stamps = [stamp for stamp in (*seen, event["metadata"].get("creationTimestamp")) if isinstance(stamp, str)]
    return max((_parse(stamp) for stamp in stamps), default=0.0)


def _parse(stamp: str) -> float:
    try:
        return parse_rfc3339(stamp)
    except ValueError:
        return 0.0
