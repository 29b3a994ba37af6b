"""Which kinds an API server has, for the few who must treat all kinds alike: garbage collection, namespaces."""

from __future__ import annotations

from collections.abc import Iterator

from controller.base.json import JsonView
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.resources import ResourceType

_NEEDED_VERBS = frozenset({"list", "watch", "delete"})


async def discover(client: KubeClient) -> tuple[ResourceType, ...]:
    """Every kind whose objects can be listed, watched and deleted, each in its group's preferred version."""
    found = list(_resources("", "v1", await client.read("/api/v1")))
    for group in (await client.read("/apis")).get("groups") or ():
        version = group["preferredVersion"]["version"]
        try:
            listed = await client.read(f"/apis/{group['name']}/{version}")
        except NotFound:  # The group's last CRD was deleted since we asked.
            continue
        found += _resources(group["name"], version, listed)
    return tuple(found)


def _resources(group: str, version: str, listed: JsonView) -> Iterator[ResourceType]:
    for entry in listed.get("resources") or ():
        is_subresource = "/" in entry["name"]
        if not is_subresource and set(entry.get("verbs") or ()) >= _NEEDED_VERBS:
            yield ResourceType(group, version, entry["name"], entry["kind"], bool(entry["namespaced"]))
