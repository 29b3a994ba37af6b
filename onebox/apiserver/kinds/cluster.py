"""Namespaces, Nodes, Events, Leases and the kinds that are only stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.kinds.strategy import Deletion, Strategy, World

_NAME_LABEL = "kubernetes.io/metadata.name"
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


def _complete_namespace(namespace: JsonObject) -> None:
    metadata = namespace.get("metadata") or {}
    if metadata.get("name"):
        metadata["labels"] = {**(metadata.get("labels") or {}), _NAME_LABEL: metadata["name"]}


def _prepare_namespace(namespace: JsonObject, old: JsonView | None, _: World) -> None:
    if old is None:
        namespace["spec"] = {"finalizers": ["kubernetes"]}
        namespace["status"] = {"phase": "Active"}
    else:
        # Only the finalize subresource may change it; that path brings its own `spec`.
        namespace["spec"] = old.get("spec") or {}


def _event_fields(event: JsonView, regarding: str) -> Mapping[str, str]:
    involved = event.get(regarding) or {}
    source = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
    fields = {f"{regarding}.{name}": str(involved.get(name, "")) for name in _INVOLVED}
    return {**fields, "reason": event.get("reason", ""), "type": event.get("type", ""), "source": source}


def _event(regarding: str) -> Strategy:
    names = tuple(f"{regarding}.{name}" for name in _INVOLVED)
    return Strategy(
        fields=lambda event: _event_fields(event, regarding),
        selectable=(*names, "reason", "reportingComponent", "source", "type"),
        skeleton={"metadata": {}, regarding: {}, "source": {}, "firstTimestamp": None, "lastTimestamp": None},
    )


def _validate_lease(lease: JsonView, _: JsonView | None) -> Iterator[FieldError]:
    spec = lease.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        message = f"Invalid value: {duration}: must be greater than 0"
        yield FieldError(field="spec.leaseDurationSeconds", message=message)
    if transitions is not None and transitions < 0:
        message = f"Invalid value: {transitions}: must be greater than or equal to 0"
        yield FieldError(field="spec.leaseTransitions", message=message)


def _validate_binding(binding: JsonView, old: JsonView | None) -> Iterator[FieldError]:
    if old is not None and old.get("roleRef") != binding.get("roleRef"):
        yield FieldError(field="roleRef", message="Invalid value: cannot change roleRef")


NAMESPACE = Strategy(
    complete=_complete_namespace,
    prepare=_prepare_namespace,
    fields=lambda namespace: {"status.phase": (namespace.get("status") or {}).get("phase", "")},
    selectable=("status.phase",),
    skeleton={"metadata": {}, "spec": {}, "status": {}},
    deletion=Deletion.EMPTIED,
)
NODE = Strategy(
    fields=lambda node: {"spec.unschedulable": str((node.get("spec") or {}).get("unschedulable", False)).lower()},
    selectable=("spec.unschedulable",),
    skeleton={"metadata": {}, "spec": {}, "status": {}},
    status_keeps=("labels", "annotations"),
)
EVENT = _event("involvedObject")
LEASE = Strategy(validate=_validate_lease, skeleton={"metadata": {}, "spec": {}})
BINDING = Strategy(validate=_validate_binding, skeleton={"metadata": {}, "roleRef": {}})
STORED = Strategy()
