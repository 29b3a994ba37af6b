"""A revision's spec and its template: defaults from config-defaults, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.api.quantity import quantity_or_none
from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from controller.base.names import child_name
from onebox.knative.admission import errors
from onebox.knative.admission.pods import check_pod
from onebox.knative.admission.probes import default_handlers, default_readiness_probe
from onebox.knative.admission.volumes import WRITABLE_SOURCES
from onebox.knative.admission.words import dns_1035_problem
from onebox.knative.autoscaler.annotations import validate_annotations
from onebox.knative.autoscaler.settings import AutoscalerSettings
from onebox.knative.settings import ServingSettings
from onebox.knative.settings.defaults import RevisionDefaults
from onebox.knative.templates import render_template

_TEMPLATE = "spec.template"
_QUEUE_PREFIX = "queue.sidecar.serving.knative.dev/"
_PERCENTAGE_KEYS = (f"{_QUEUE_PREFIX}resource-percentage", f"{_QUEUE_PREFIX}resourcePercentage")
_QUANTITY_KEYS = tuple(
    f"{_QUEUE_PREFIX}{resource}-resource-{bound}"
    for resource in ("cpu", "memory", "ephemeral-storage")
    for bound in ("request", "limit")
)
_NETWORKING_PREFIX = "networking.knative.dev"
_NETWORKING_KEYS = frozenset(
    f"{_NETWORKING_PREFIX}/{name}"
    for name in [
        "ingress-class",
        "ingress.class",
        "certificate-class",
        "certificate.class",
        "disable-auto-tls",
        "disableAutoTLS",
        "disable-external-domain-tls",
        "http-option",
        "http-protocol",
        "httpProtocol",
        "httpOption",
    ]
)


def default_revision_spec(spec: JsonObject, parent: JsonView, defaults: RevisionDefaults, *, creating: bool) -> None:
    """Fills in `spec` of a Revision or template; `parent` is the metadata of the object that it belongs to."""
    spec["timeoutSeconds"] = timeout_s = spec.get("timeoutSeconds") or defaults.timeout_s
    for field, default in (
        ("idleTimeoutSeconds", defaults.idle_timeout_s),
        ("responseStartTimeoutSeconds", defaults.response_start_timeout_s),
    ):
        # A limit that is no shorter than the whole request's would never be met first.
        if spec.get(field) is None and 0 < default < timeout_s:
            spec[field] = default
    if spec.get("containerConcurrency") is None:
        spec["containerConcurrency"] = defaults.container_concurrency
    if creating and spec.get("enableServiceLinks") is None and defaults.enable_service_links is not None:
        spec["enableServiceLinks"] = defaults.enable_service_links
    _default_names(spec, parent, defaults)
    containers: list[JsonObject] = spec.get("containers") or []
    for container in containers:
        _default_container(container, spec, defaults, serving=len(containers) == 1 or bool(container.get("ports")))
    for container in spec.get("initContainers") or []:
        container.setdefault("resources", {})


def _default_names(spec: JsonObject, parent: JsonView, defaults: RevisionDefaults) -> None:
    containers, init_containers = spec.get("containers") or [], spec.get("initContainers") or []
    taken = {container.get("name", "") for container in (*containers, *init_containers)}
    values = {
        "Name": str(parent.get("name", "")),
        "Namespace": str(parent.get("namespace", "")),
        "Annotations": parent.get("annotations") or {},
        "Labels": parent.get("labels") or {},
    }
    for group, template in (
        (containers, defaults.container_name_template),
        (init_containers, defaults.init_container_name_template),
    ):
        _name_unnamed(group, render_template(template, values), taken)


def _name_unnamed(containers: list[JsonObject], name: str, taken: set[str]) -> None:
    suffix = 0
    for container in containers:
        if container.get("name"):
            continue
        chosen = name
        if len(containers) > 1 or name in taken:
            while (chosen := child_name(name, f"-{suffix}")) in taken:
                suffix += 1
            suffix += 1
        container["name"] = chosen


def _default_container(container: JsonObject, spec: JsonView, defaults: RevisionDefaults, *, serving: bool) -> None:
    resources = container.setdefault("resources", {})
    for field, quantities in (("requests", defaults.requests), ("limits", defaults.limits)):
        if quantities:
            resources[field] = {**quantities, **(resources.get(field) or {})}
    default_readiness_probe(container, serving=serving)
    default_handlers(container)
    writable = {
        volume.get("name")
        for volume in spec.get("volumes") or []
        if any(volume.get(source) is not None for source in WRITABLE_SOURCES)
    }
    for mount in container.get("volumeMounts") or []:
        if mount.get("name") not in writable:
            mount["readOnly"] = True


def check_revision_spec(spec: JsonView, path: str, settings: ServingSettings) -> Iterator[FieldError]:
    """The pod, and Knative's own fields."""
    yield from check_pod(spec, path, settings.features)
    defaults = settings.defaults
    timeout_s = spec.get("timeoutSeconds") or 0
    if not 0 <= timeout_s <= defaults.timeout_s_max:
        yield errors.out_of_bounds(f"{path}.timeoutSeconds", timeout_s, 0, defaults.timeout_s_max)
    concurrency = spec.get("containerConcurrency")
    least = 0 if defaults.allow_container_concurrency_zero else 1
    if concurrency is not None and not least <= concurrency <= defaults.container_concurrency_max:
        yield errors.out_of_bounds(
            f"{path}.containerConcurrency", concurrency, least, defaults.container_concurrency_max
        )


def check_template(template: JsonView, parent: JsonView, settings: ServingSettings) -> Iterator[FieldError]:
    """The template of a Service or Configuration; `parent` is the metadata of that object."""
    yield from check_revision_spec(template.get("spec") or {}, f"{_TEMPLATE}.spec", settings)
    metadata = template.get("metadata") or {}
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    path = f"{_TEMPLATE}.metadata.annotations"
    yield from check_scaling(annotations, path, settings.scale)
    for key in annotations:
        if key.startswith(_NETWORKING_PREFIX) and key not in _NETWORKING_KEYS:
            yield errors.bad_key(path, key)
    yield from _check_revision_name(metadata, parent)
    yield from _check_queue_annotations(annotations, path)


def check_scaling(annotations: Mapping[str, str], path: str, settings: AutoscalerSettings) -> Iterator[FieldError]:
    """What the autoscaler cannot work with; `path` is where the annotations are."""
    for error in validate_annotations(annotations, settings):
        for key in error.field.split(", "):
            yield FieldError(field=f"{path}.{key}", message=error.message, cause=error.cause)


def check_name_change(template: JsonView, old: JsonView) -> Iterator[FieldError]:
    """A revision that the user named is made once: another content needs another name."""
    name = (template.get("metadata") or {}).get("name")
    if not name or name != (old.get("metadata") or {}).get("name") or template == old:
        return
    changed = ", ".join(sorted(_changes(old, template, "")))
    message = f"Saw the following changes without a name change (-old +new): {changed}"
    yield errors.generic(f"{_TEMPLATE}.metadata.name", message)


def _changes(old: Any, new: Any, path: str) -> Iterator[str]:
    """The paths of what differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old.keys() | new.keys():
            yield from _changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path


def check_immutable(spec: JsonView, old: JsonView) -> Iterator[FieldError]:
    """A revision's spec never changes."""
    if spec != old:
        changed = ", ".join(sorted(_changes(old, spec, "")))
        yield FieldError(
            field="spec", message=f"Immutable fields changed (-old +new): {changed}", cause="FieldValueForbidden"
        )


def _check_revision_name(metadata: JsonView, parent: JsonView) -> Iterator[FieldError]:
    name, path = metadata.get("name", ""), f"{_TEMPLATE}.metadata.name"
    if not name:
        return
    parent_name = parent.get("name", "")
    if problem := dns_1035_problem(name):
        yield errors.invalid(path, f"not a DNS 1035 label: [{problem}]")
    elif not parent_name and parent.get("generateName"):
        yield errors.forbidden(path)
    elif not name.startswith(f"{parent_name}-"):
        yield errors.invalid(path, f'"{name}" must have prefix "{parent_name}-"')


def _check_queue_annotations(annotations: Mapping[str, str], path: str) -> Iterator[FieldError]:
    for key in _PERCENTAGE_KEYS:
        if key not in annotations:
            continue
        try:
            percentage = float(annotations[key])
        except ValueError:
            yield errors.invalid(f"{path}[{key}]", annotations[key])
        else:
            if not 0.1 <= percentage <= 100:
                yield errors.out_of_bounds(f"{path}[{key}]", annotations[key], 0.1, 100)
    for key in _QUANTITY_KEYS:
        if key in annotations and quantity_or_none(annotations[key]) is None:
            yield errors.invalid(f"{path}[{key}]", annotations[key])
