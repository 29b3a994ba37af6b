"""Columns and cells of Kubernetes' own kinds, as kubectl users know them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from controller.base.json import JsonView
from onebox.apiserver.resources.types import Column
from onebox.apiserver.tables.durations import age, human_duration
from onebox.apiserver.tables.pods import POD_COLUMNS, pod_cells

Layout = tuple[Sequence[Column], Callable[[JsonView, float], list[Any]]]
_NONE = "<none>"


def _columns(*names: str, wide: Sequence[str] = ()) -> tuple[Column, ...]:
    return (*(Column(name=name) for name in names), *(Column(name=name, priority=1) for name in wide))


def _age(value: JsonView, now_s: float) -> str:
    return age(value["metadata"].get("creationTimestamp"), now_s)


def _default_cells(value: JsonView, now_s: float) -> list[Any]:
    return [_age(value, now_s)]


def _config_map_cells(value: JsonView, now_s: float) -> list[Any]:
    return [len(value.get("data") or {}) + len(value.get("binaryData") or {}), _age(value, now_s)]


def _secret_cells(value: JsonView, now_s: float) -> list[Any]:
    return [value.get("type", ""), len(value.get("data") or {}), _age(value, now_s)]


def _namespace_cells(value: JsonView, now_s: float) -> list[Any]:
    return [(value.get("status") or {}).get("phase", ""), _age(value, now_s)]


def _service_account_cells(value: JsonView, now_s: float) -> list[Any]:
    return [len(value.get("secrets") or ()), _age(value, now_s)]


def _lease_cells(value: JsonView, now_s: float) -> list[Any]:
    return [(value.get("spec") or {}).get("holderIdentity", ""), _age(value, now_s)]


def _service_cells(value: JsonView, now_s: float) -> list[Any]:
    spec = value.get("spec") or {}
    type_ = spec.get("type", "ClusterIP")
    external = spec.get("externalName") if type_ == "ExternalName" else ",".join(spec.get("externalIPs") or ())
    ports = ",".join(_service_port(port) for port in spec.get("ports") or ())
    address = spec.get("clusterIP") or _NONE
    return [type_, address, external or _NONE, ports or _NONE, _age(value, now_s), _labels(spec.get("selector"))]


def _service_port(port: JsonView) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}"


def _endpoints_cells(value: JsonView, now_s: float) -> list[Any]:
    shown: list[str] = []
    for subset in value.get("subsets") or ():
        ports = subset.get("ports") or ()
        for address in subset.get("addresses") or ():
            shown += [f"{address.get('ip')}:{port.get('port')}" for port in ports] or [str(address.get("ip"))]
    more = f" + {len(shown) - 3} more..." if len(shown) > 3 else ""
    return [",".join(shown[:3]) + more or _NONE, _age(value, now_s)]


def _node_cells(value: JsonView, now_s: float) -> list[Any]:
    status, metadata = value.get("status") or {}, value["metadata"]
    ready = next((c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"), "Unknown")
    shown = {"True": "Ready", "False": "NotReady"}.get(ready, "Unknown")
    if (value.get("spec") or {}).get("unschedulable"):
        shown += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = sorted(name.removeprefix(prefix) for name in metadata.get("labels") or {} if name.startswith(prefix))
    info = status.get("nodeInfo") or {}
    addresses = {item.get("type"): item.get("address") for item in status.get("addresses") or ()}
    return [
        shown,
        ",".join(roles) or _NONE,
        _age(value, now_s),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", _NONE),
        addresses.get("ExternalIP", _NONE),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _event_cells(value: JsonView, now_s: float) -> list[Any]:
    involved, source = value.get("involvedObject") or {}, value.get("source") or {}
    series = value.get("series") or {}
    last = series.get("lastObservedTime") or value.get("lastTimestamp") or value.get("eventTime")
    first = value.get("firstTimestamp") or value.get("eventTime")
    name = f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"
    count = series.get("count") or value.get("count") or 1
    component = source.get("component") or value.get("reportingComponent") or ""
    shown_source = f"{component}, {source['host']}" if source.get("host") else component
    return [
        age(last, now_s),
        value.get("type", ""),
        value.get("reason", ""),
        name,
        involved.get("fieldPath", ""),
        shown_source,
        (value.get("message") or "").strip(),
        age(first, now_s),
        count,
        value["metadata"]["name"],
    ]


def _template_cells(spec: JsonView) -> list[Any]:
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    names = ",".join(container.get("name", "") for container in containers)
    images = ",".join(container.get("image", "") for container in containers)
    return [names, images, _labels((spec.get("selector") or {}).get("matchLabels"))]


def _deployment_cells(value: JsonView, now_s: float) -> list[Any]:
    spec, status = value.get("spec") or {}, value.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    numbers = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [ready, *numbers, _age(value, now_s), *_template_cells(spec)]


def _replica_set_cells(value: JsonView, now_s: float) -> list[Any]:
    spec, status = value.get("spec") or {}, value.get("status") or {}
    numbers = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [*numbers, _age(value, now_s), *_template_cells(spec)]


def _job_cells(value: JsonView, now_s: float) -> list[Any]:
    spec, status = value.get("spec") or {}, value.get("status") or {}
    conditions = {item.get("type") for item in status.get("conditions") or () if item.get("status") == "True"}
    shown = next((name for name in ("Complete", "Failed", "Suspended") if name in conditions), "Running")
    completions = f"{status.get('succeeded', 0)}/{spec.get('completions', 1)}"
    return [shown, completions, _job_duration(status, now_s), _age(value, now_s), *_template_cells(spec)]


def _job_duration(status: JsonView, now_s: float) -> str:
    from controller.base.clock import parse_rfc3339

    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    return human_duration((parse_rfc3339(end) if end else now_s) - parse_rfc3339(start))


def _crd_cells(value: JsonView, _: float) -> list[Any]:
    return [value["metadata"].get("creationTimestamp", "")]


def _role_cells(value: JsonView, _: float) -> list[Any]:
    return [value["metadata"].get("creationTimestamp", "")]


def _binding_cells(value: JsonView, now_s: float) -> list[Any]:
    role = value.get("roleRef") or {}
    return [f"{role.get('kind', '')}/{role.get('name', '')}", _age(value, now_s)]


def _labels(labels: JsonView | None) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted((labels or {}).items())) or _NONE


_WIDE_TEMPLATE = ("Containers", "Images", "Selector")
_RBAC = "rbac.authorization.k8s.io"
DEFAULT: Layout = (_columns("Age"), _default_cells)
BUILTIN: dict[str, Layout] = {
    "pods": (POD_COLUMNS, pod_cells),
    "configmaps": (_columns("Data", "Age"), _config_map_cells),
    "secrets": (_columns("Type", "Data", "Age"), _secret_cells),
    "namespaces": (_columns("Status", "Age"), _namespace_cells),
    "serviceaccounts": (_columns("Secrets", "Age"), _service_account_cells),
    "events": (
        (
            *_columns("Last Seen", "Type", "Reason", "Object", wide=("Subobject", "Source")),
            *_columns("Message", wide=("First Seen", "Count", "Name")),
        ),
        _event_cells,
    ),
    "leases.coordination.k8s.io": (_columns("Holder", "Age"), _lease_cells),
    "services": (
        _columns("Type", "Cluster-IP", "External-IP", "Port(s)", "Age", wide=("Selector",)),
        _service_cells,
    ),
    "endpoints": (_columns("Endpoints", "Age"), _endpoints_cells),
    "nodes": (
        _columns(
            "Status", "Roles", "Age", "Version",
            wide=("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        ),
        _node_cells,
    ),
    "deployments.apps": (_columns("Ready", "Up-to-date", "Available", "Age", wide=_WIDE_TEMPLATE), _deployment_cells),
    "replicasets.apps": (_columns("Desired", "Current", "Ready", "Age", wide=_WIDE_TEMPLATE), _replica_set_cells),
    "jobs.batch": (_columns("Status", "Completions", "Duration", "Age", wide=_WIDE_TEMPLATE), _job_cells),
    "customresourcedefinitions.apiextensions.k8s.io": (_columns("Created At"), _crd_cells),
    f"roles.{_RBAC}": (_columns("Created At"), _role_cells),
    f"clusterroles.{_RBAC}": (_columns("Created At"), _role_cells),
    f"rolebindings.{_RBAC}": (_columns("Role", "Age"), _binding_cells),
    f"clusterrolebindings.{_RBAC}": (_columns("Role", "Age"), _binding_cells),
}  # fmt: skip
