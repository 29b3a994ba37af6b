"""Which kinds an API server has, for the few who must treat all kinds alike: garbage collection, namespaces."""

from __future__ import annotations

from collections.abc import Iterator

from controller.base.json import JsonView
from controller.kube.client import KubeClient
from controller.kube.errors import NotFound
from controller.kube.resources import ResourceType

_NEEDED_VERBS = frozenset({"list", "watch", "delete"})


async def discover(client: KubeClient) -> tuple[ResourceType, ...]:
    """Every kind whose objects can be listed, watched and deleted, each in the version that its group prefers for it."""
    found = list(_resources("", "v1", await client.read("/api/v1")))
    for group in (await client.read("/apis")).get("groups") or ():
        found += await _of_group(client, group)
    return tuple(found)


async def _of_group(client: KubeClient, group: JsonView) -> list[ResourceType]:
    preferred = group["preferredVersion"]["version"]
    versions = [version["version"] for version in group.get("versions") or ()]
    found: dict[str, ResourceType] = {}
    # A kind may be in older versions only: KServe's runtimes are v1alpha1 while its group prefers v1beta1.
    for version in dict.fromkeys([preferred, *versions]):
        try:
            listed = await client.read(f"/apis/{group['name']}/{version}")
        except NotFound:  # The version's last CRD was deleted since we asked.
            continue
        for resource in _resources(group["name"], version, listed):
            found.setdefault(resource.plural, resource)
    return list(found.values())


def _resources(group: str, version: str, listed: JsonView) -> Iterator[ResourceType]:
    for entry in listed.get("resources") or ():
        is_subresource = "/" in entry["name"]
        if not is_subresource and set(entry.get("verbs") or ()) >= _NEEDED_VERBS:
            yield ResourceType(group, version, entry["name"], entry["kind"], bool(entry["namespaced"]))
