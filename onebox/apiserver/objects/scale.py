"""The scale subresource: replicas of any kind that has them, as autoscaling/v1 Scale. Pure."""

from __future__ import annotations

from typing import Any

from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.requests import Target
from onebox.apiserver.status import bad_request, internal_error, invalid


def build_scale(value: JsonView, target: Target, *, lenient: bool = False) -> JsonObject:
    """The Scale of an object; kube-apiserver answers 500 for an object without replicas, and so does this."""
    paths = target.version.scale
    assert paths is not None
    replicas = _at(value, paths.spec)
    if replicas is None:
        if target.resource.custom and not lenient:
            raise internal_error(f'the spec replicas field ".{paths.spec}" does not exist')
        replicas = 0
    metadata = value["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: JsonObject = {"replicas": _at(value, paths.status) or 0}
    selector = _at(value, paths.selector) if paths.selector else None
    if selector:
        status["selector"] = selector if isinstance(selector, str) else _selector_text(selector)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": replicas},
        "status": status,
    }


def set_replicas(value: JsonObject, scale: JsonView, target: Target) -> None:
    """Writes a Scale's replicas into the object, in place; Refused where they are no count."""
    paths = target.version.scale
    assert paths is not None
    replicas: Any = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request('Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal into int32')
    if replicas < 0:
        custom = target.resource.custom
        field = f".{paths.spec}" if custom else paths.spec
        must = "should be a non-negative integer" if custom else "must be greater than or equal to 0"
        error = FieldError(field=field, message=f"Invalid value: {replicas}: {must}")
        raise invalid(target.resource.kind, target.resource.group, target.name, [error])
    *parents, last = paths.spec.split(".")
    place = value
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = replicas


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _selector_text(selector: JsonView) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items()))
