"""Discovery: which groups, versions and kinds there are, in the old form and the aggregated one."""

from __future__ import annotations

import hashlib
from base64 import b64encode

from controller.base.json import JsonObject
from onebox.apiserver.resources.registry import Registry
from onebox.apiserver.resources.types import Resource, Version

KUBERNETES_VERSION = "v1.36.2"
"""The Kubernetes whose behaviour is followed; kubectl only warns where it is more than one minor version away."""
REVIEWS = {
    "authorization.k8s.io": ("SelfSubjectAccessReview", "SubjectAccessReview", "SelfSubjectRulesReview"),
    "authentication.k8s.io": ("SelfSubjectReview",),
}
"""Kinds that can be created only, and are never stored."""
_STATUS_VERBS = ["get", "patch", "update"]


def plural_of_review(kind: str) -> str:
    return f"{kind.lower()}s"


class Discovery:
    """Documents about the registry's kinds."""

    def __init__(self, registry: Registry, address: str) -> None:
        self._registry = registry
        self._address = address

    def version(self) -> JsonObject:
        """`/version`"""
        major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
        return {
            "major": major,
            "minor": minor,
            "emulationMajor": major,
            "emulationMinor": minor,
            "minCompatibilityMajor": major,
            "minCompatibilityMinor": str(int(minor) - 1),
            "gitVersion": KUBERNETES_VERSION,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "",
            "platform": "linux/amd64",
        }

    def core_versions(self) -> JsonObject:
        """`/api`"""
        address = {"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]}

    def group_list(self) -> JsonObject:
        """`/apis`"""
        groups = [self._group(group, versions) for group, versions in self._groups().items() if group]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def group(self, name: str) -> JsonObject | None:
        """`/apis/<group>`; None where there is no such group."""
        versions = self._groups().get(name)
        if not versions:
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(name, versions)}

    def resource_list(self, group: str, version: str) -> JsonObject | None:
        """`/api/v1`, `/apis/<group>/<version>`; None where it is not served."""
        if version not in self._groups().get(group, ()):
            return None
        resources: list[JsonObject] = []
        for resource in self._registry:
            served = resource.versions.get(version)
            if resource.group == group and served is not None and served.served:
                resources += _resources(resource, served)
        resources += [_review(kind) for kind in REVIEWS.get(group, ())]
        group_version = f"{group}/{version}" if group else version
        head: JsonObject = {"kind": "APIResourceList"} if not group else {"kind": "APIResourceList", "apiVersion": "v1"}
        return {**head, "groupVersion": group_version, "resources": resources}

    def aggregated(self, *, core: bool) -> JsonObject:
        """`/api` or `/apis` in the aggregated form (apidiscovery.k8s.io/v2)."""
        items = []
        for group, versions in self._groups().items():
            if (group == "") is not core:
                continue
            metadata = {"name": group} if group else {}
            items.append({"metadata": metadata, "versions": [self._aggregated(group, version) for version in versions]})
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}

    def _groups(self) -> dict[str, list[str]]:
        found = self._registry.groups()
        for group in REVIEWS:
            found.setdefault(group, ["v1"])
        return found

    def _group(self, name: str, versions: list[str]) -> JsonObject:
        listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
        return {"name": name, "versions": listed, "preferredVersion": listed[0]}

    def _aggregated(self, group: str, version: str) -> JsonObject:
        resources = []
        for resource in self._registry:
            served = resource.versions.get(version)
            if resource.group == group and served is not None and served.served:
                resources.append(_aggregated_resource(resource, served))
        resources += [_aggregated_review(group, version, kind) for kind in REVIEWS.get(group, ())]
        return {"version": version, "resources": resources, "freshness": "Current"}


def _resources(resource: Resource, version: Version) -> list[JsonObject]:
    main: JsonObject = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        main["shortNames"] = list(resource.short_names)
    if resource.categories:
        main["categories"] = list(resource.categories)
    main["storageVersionHash"] = _storage_hash(resource)
    listed = [main]
    for name, kind, verbs in _subresources(resource, version):
        entry: JsonObject = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
        if kind == "Scale":
            entry |= {"group": "autoscaling", "version": "v1"}
        listed.append({**entry, "kind": kind, "verbs": list(verbs)})
    return listed


def _subresources(resource: Resource, version: Version) -> list[tuple[str, str, tuple[str, ...]]]:
    listed = list(resource.subresources)
    if version.has_status:
        listed.append(("status", resource.kind, tuple(_STATUS_VERBS)))
    if version.scale is not None:
        listed.append(("scale", "Scale", tuple(_STATUS_VERBS)))
    return listed


def _aggregated_resource(resource: Resource, version: Version) -> JsonObject:
    entry: JsonObject = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": version.name, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    subresources = []
    for name, kind, verbs in _subresources(resource, version):
        answer = {"group": resource.group, "version": version.name, "kind": kind}
        if kind == "Scale":
            answer = {"group": "autoscaling", "version": "v1", "kind": kind}
        subresources.append({"subresource": name, "responseKind": answer, "verbs": list(verbs)})
    if subresources:
        entry["subresources"] = subresources
    return entry


def _review(kind: str) -> JsonObject:
    return {
        "name": plural_of_review(kind),
        "singularName": kind.lower(),
        "namespaced": False,
        "kind": kind,
        "verbs": ["create"],
    }


def _aggregated_review(group: str, version: str, kind: str) -> JsonObject:
    return {
        "resource": plural_of_review(kind),
        "responseKind": {"group": group, "version": version, "kind": kind},
        "scope": "Cluster",
        "singularResource": kind.lower(),
        "verbs": ["create"],
    }


def _storage_hash(resource: Resource) -> str:
    """Tells clients when objects of a kind come to be stored differently."""
    text = f"{resource.group}/{resource.storage}/{resource.kind}"
    return b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()
