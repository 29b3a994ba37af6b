"""Finds the kind that a path or an object means; follows custom resource definitions as they come and go."""

from __future__ import annotations

from collections.abc import Iterator

from onebox.apiserver.resources.types import Resource


class Registry:
    """All kinds that are served, by storage key."""

    def __init__(self, builtin: list[Resource]) -> None:
        self._resources = {resource.key: resource for resource in builtin}
        self.generation = 0
        """Counts changes, so that documents made from the registry can be cached."""

    def __iter__(self) -> Iterator[Resource]:
        return iter(sorted(self._resources.values(), key=lambda resource: (resource.group, resource.plural)))

    def by_key(self, key: str) -> Resource | None:
        """The kind whose objects storage keeps under `key`."""
        return self._resources.get(key)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The kind of a path, if that version of it is served."""
        resource = self._resources.get(f"{plural}.{group}" if group else plural)
        if resource is None or version not in resource.versions or not resource.versions[version].served:
            return None
        return resource

    def add(self, resource: Resource) -> None:
        """Serves a kind from now on, or its new definition."""
        self._resources[resource.key] = resource
        self.generation += 1

    def remove(self, key: str) -> None:
        if self._resources.pop(key, None) is not None:
            self.generation += 1

    def groups(self) -> dict[str, list[str]]:
        """Served versions by group, the core group ("") included, best version first."""
        found: dict[str, set[str]] = {}
        for resource in self._resources.values():
            served = {version.name for version in resource.versions.values() if version.served}
            found.setdefault(resource.group, set()).update(served)
        return {group: sorted(versions, key=version_rank, reverse=True) for group, versions in sorted(found.items())}


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Kubernetes' order of versions: v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > anything else."""
    import re

    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return (0, 0, 0, version)
    major, stage, minor = match.groups()
    return ({"alpha": 1, "beta": 2, None: 3}[stage], int(major), int(minor or 0), "")
