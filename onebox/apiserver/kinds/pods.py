"""Pods and pod templates: defaults that depend on other fields, what admission adds, validation, what may change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.api.quantity import quantity_or_none
from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.kinds.strategy import Deletion, Generation, Strategy, World

_CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
_NOT_READY_TOLERANCE_S = 300
"""How long a pod tolerates an unready node: the default of Kubernetes' DefaultTolerationSeconds admission."""
_MUTABLE = ("tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds")
_IMMUTABLE_MESSAGE = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def containers_of(spec: JsonView) -> Iterator[tuple[str, int, JsonObject]]:
    """(list, index, container) of all containers of a pod's spec."""
    for listed in _CONTAINER_LISTS:
        for index, container in enumerate(spec.get(listed) or ()):
            if isinstance(container, dict):
                yield listed, index, container


def complete_template(spec: JsonObject) -> None:
    """Defaults of a pod's spec wherever it stands."""
    for _, _, container in containers_of(spec):
        if "imagePullPolicy" not in container and isinstance(container.get("image"), str):
            container["imagePullPolicy"] = _pull_policy(container["image"])
        _normalise_resources(container.get("resources"))
    for volume in spec.get("volumes") or ():
        if isinstance(volume, dict) and isinstance(volume.get("emptyDir"), dict):
            _normalise_quantities(volume["emptyDir"], ("sizeLimit",))
    _normalise_quantities(spec.get("overhead"))


def _complete(pod: JsonObject) -> None:
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    complete_template(spec)
    spec.setdefault("enableServiceLinks", True)
    for _, _, container in containers_of(spec):
        resources = container.get("resources")
        if isinstance(resources, dict) and isinstance(resources.get("limits"), dict):
            requests = resources.setdefault("requests", {})
            for name, limit in resources["limits"].items():
                requests.setdefault(name, limit)


def _pull_policy(image: str) -> str:
    name = image.rsplit("/", 1)[-1]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if ":" not in name or name.endswith(":latest") else "IfNotPresent"


def _normalise_resources(resources: Any) -> None:
    if isinstance(resources, dict):
        for part in ("limits", "requests"):
            _normalise_quantities(resources.get(part))


def _normalise_quantities(quantities: Any, names: Iterable[str] | None = None) -> None:
    """Numbers become text, which is how Kubernetes writes quantities."""
    if isinstance(quantities, dict):
        for name in names or list(quantities):
            if isinstance(quantities.get(name), int | float) and not isinstance(quantities[name], bool):
                quantities[name] = str(quantities[name])


def _prepare(pod: JsonObject, old: JsonView | None, _: World) -> None:
    if old is not None:
        return
    spec = pod["spec"]
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(toleration.get("key") in (key, None) for toleration in tolerations):
            toleration = {"key": key, "operator": "Exists", "effect": "NoExecute"}
            tolerations.append({**toleration, "tolerationSeconds": _NOT_READY_TOLERANCE_S})
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    pod["status"] = {"phase": "Pending", "qosClass": _quality_of_service(spec)}


def _quality_of_service(spec: JsonView) -> str:
    guaranteed, best_effort = True, True
    for listed, _, container in containers_of(spec):
        if listed == "ephemeralContainers":
            continue
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            best_effort = best_effort and name not in limits and name not in requests
            guaranteed = guaranteed and name in limits and limits[name] == requests.get(name)
    return "BestEffort" if best_effort else "Guaranteed" if guaranteed else "Burstable"


def validate_template(spec: JsonView, path: str) -> Iterator[FieldError]:
    """What is wrong with a pod's spec at `path`, beyond its schema."""
    if not spec.get("containers"):
        yield FieldError(field=f"{path}.containers", message="Required value", cause="FieldValueRequired")
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for listed, index, container in containers_of(spec):
        where = f"{path}.{listed}[{index}]"
        if not container.get("image"):
            yield FieldError(field=f"{where}.image", message="Required value", cause="FieldValueRequired")
        for position, mount in enumerate(container.get("volumeMounts") or ()):
            if mount.get("name") not in volumes:
                yield FieldError(
                    field=f"{where}.volumeMounts[{position}].name",
                    message=f'Not found: "{mount.get("name")}"',
                    cause="FieldValueNotFound",
                )
        yield from _validate_resources(container.get("resources") or {}, f"{where}.resources")


def _validate_resources(resources: JsonView, path: str) -> Iterator[FieldError]:
    limits = resources.get("limits") or {}
    for name, request in (resources.get("requests") or {}).items():
        wanted, limit = quantity_or_none(request), quantity_or_none(limits.get(name))
        if wanted is not None and limit is not None and wanted > limit:
            message = f'Invalid value: "{request}": must be less than or equal to {name} limit of {limits[name]}'
            yield FieldError(field=f"{path}.requests", message=message)


def quantities_of(spec: JsonView) -> Iterator[object]:
    """All quantities of a pod's spec, for the decoder to check."""
    for _, _, container in containers_of(spec):
        resources = container.get("resources") or {}
        for part in ("limits", "requests"):
            yield from (resources.get(part) or {}).values()


def _validate(pod: JsonView, old: JsonView | None) -> Iterator[FieldError]:
    spec = pod.get("spec") or {}
    yield from validate_template(spec, "spec")
    if old is not None and _frozen_part(spec) != _frozen_part(old.get("spec") or {}):
        yield FieldError(field="spec", message=_IMMUTABLE_MESSAGE, cause="FieldValueForbidden")


def _frozen_part(spec: JsonView) -> JsonObject:
    frozen = {name: value for name, value in spec.items() if name not in (*_MUTABLE, *_CONTAINER_LISTS)}
    for listed, _, container in containers_of(spec):
        if listed != "ephemeralContainers":
            frozen.setdefault(listed, []).append({name: value for name, value in container.items() if name != "image"})
    return frozen


def _fields(pod: JsonView) -> Mapping[str, str]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    return {
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.restartPolicy": spec.get("restartPolicy", ""),
        "spec.schedulerName": spec.get("schedulerName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.phase": status.get("phase", ""),
        "status.podIP": status.get("podIP", ""),
        "status.nominatedNodeName": status.get("nominatedNodeName", ""),
    }


POD = Strategy(
    complete=_complete,
    prepare=_prepare,
    validate=_validate,
    fields=_fields,
    selectable=(
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    skeleton={"metadata": {}, "spec": {"containers": None}, "status": {}},
    generation=Generation.SPEC,
    deletion=Deletion.GRACEFUL,
    status_keeps=("labels", "annotations"),
)
