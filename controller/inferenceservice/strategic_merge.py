"""A container or pod spec laid over another one, as Kubernetes' strategic merge does it. (pure)

Objects merge field by field. Lists whose items have a key merge item by item (env by name, mounts by path, ports by number);
all other lists are replaced. Items of the upper one come first. Directives (`$patch`) do not occur in typed specs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from controller.api.core import Container, PodSpec
from controller.base.json import JsonObject, JsonView

_KEYS: Final[Mapping[str, str]] = {
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "volumes": "name",
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "claims": "name",
}
"""The key of each list's items; core/v1's `patchMergeKey`."""


def merge_containers(lower: Container, upper: Container) -> Container:
    """`upper` over `lower`. Arguments are concatenated, since KServe's manifests rely on a runtime's own staying in place."""
    merged = merge(lower.to_json(), _without_empty(upper.to_json()))
    if lower.args or upper.args:
        merged["args"] = [*lower.args, *upper.args]
    return Container.parse(merged)


def merge_pods(lower: PodSpec, upper: PodSpec) -> PodSpec:
    """`upper` over `lower`."""
    return PodSpec.parse(merge(lower.to_json(), upper.to_json()))


def merge(lower: JsonView, upper: JsonView) -> JsonObject:
    """`upper` over `lower`, of any type."""
    merged: JsonObject = {**lower}
    for name, value in upper.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = merge(below, value)
        elif isinstance(value, list) and isinstance(below, list) and name in _KEYS:
            merged[name] = _merge_items(below, value, name)
        else:
            merged[name] = value
    return merged


def _merge_items(lower: Sequence[Any], upper: Sequence[Any], list_name: str) -> list[Any]:
    key = _KEYS[list_name]
    below = {item.get(key): item for item in lower}
    items = []
    for item in upper:
        base = below.pop(item.get(key), None)
        if base is not None and list_name == "env":
            # An entry has a value or a source; merging the two would make it have both.
            base = None
        items.append(merge(base, item) if base is not None else item)
    return [*items, *below.values()]


def _without_empty(container: JsonObject) -> JsonObject:
    # Empty strings and objects in a model (`name: ""`, as KServe stores it) say nothing and must not replace anything.
    return {name: value for name, value in container.items() if value not in ("", None)}
