"""One container of a pod spec: its fields, environment, image, port and rights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from controller.base.errors import FieldError
from controller.base.json import JsonView
from onebox.knative.admission import errors
from onebox.knative.admission.probes import check_probe, check_readiness_probe
from onebox.knative.admission.volumes import Volumes, check_mounts
from onebox.knative.names import (
    H2C_PORT_NAME,
    PROFILING_PORT,
    QUEUE_ADMIN_PORT,
    QUEUE_CONTAINER,
    QUEUE_HTTP2_PORT,
    QUEUE_HTTP_PORT,
    QUEUE_METRICS_PORT,
    QUEUE_STATS_PORT,
)
from onebox.knative.settings.features import Feature, Features, Flag

_FIELDS = frozenset(
    [
        "name",
        "args",
        "command",
        "env",
        "workingDir",
        "envFrom",
        "image",
        "imagePullPolicy",
        "livenessProbe",
        "ports",
        "readinessProbe",
        "resources",
        "securityContext",
        "startupProbe",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "volumeMounts",
    ]
)
_SECURITY_FIELDS = frozenset(
    [
        "capabilities",
        "readOnlyRootFilesystem",
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "allowPrivilegeEscalation",
        "seccompProfile",
        "privileged",
    ]
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_RESERVED_ENV = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
RESERVED_PORTS = frozenset(
    {QUEUE_HTTP_PORT, QUEUE_HTTP2_PORT, QUEUE_ADMIN_PORT, QUEUE_STATS_PORT, QUEUE_METRICS_PORT, PROFILING_PORT}
)
_PORT_NAMES = ("", H2C_PORT_NAME, "http1")
_PORT_MAX = 65535
_ID_MAX = 2**31 - 1
_POLICIES = ("", "File", "FallbackToLogsOnError")
_REPOSITORY = re.compile(r"[a-z0-9._/-]{2,255}")
_TAG = re.compile(r"[\w.-]{1,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Role(StrEnum):
    """What a container is for, which decides about ports, probes and PORT."""

    SERVING = "serving"
    SIDECAR = "sidecar"
    INIT = "init"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContext:
    """What a container is checked against: its pod's volumes and serving port, and the feature flags."""

    volumes: Volumes
    port_name: str
    features: Features


def check_container(container: JsonView, path: str, role: Role, pod: PodContext) -> Iterator[FieldError]:
    """Everything that Knative would refuse in this container."""
    yield from _check_probes(container, path, role, pod)
    if not container:
        yield errors.missing(path)
        return
    for field in sorted(field for field, value in container.items() if field not in _FIELDS and value):
        yield errors.forbidden(f"{path}.{field}")
    if container.get("name") == QUEUE_CONTAINER:
        yield errors.generic(f"{path}.name", f'"{QUEUE_CONTAINER}" is a reserved container name')
    yield from _check_env(container, path, role, pod.features)
    yield from _check_image(container.get("image", ""), f"{path}.image")
    yield from _check_ports(container.get("ports") or [], f"{path}.ports", role)
    for field in sorted(set(container.get("resources") or {}) - {"limits", "requests"}):
        yield errors.forbidden(f"{path}.resources.{field}")
    yield from _check_security(container.get("securityContext") or {}, f"{path}.securityContext", pod.features)
    policy = container.get("terminationMessagePolicy", "")
    if policy not in _POLICIES:
        yield errors.invalid(f"{path}.terminationMessagePolicy", policy)
    yield from check_mounts(container.get("volumeMounts") or [], pod.volumes, f"{path}.volumeMounts", pod.features)


def _check_probes(container: JsonView, path: str, role: Role, pod: PodContext) -> Iterator[FieldError]:
    if role is Role.INIT:
        for name in _PROBES:
            if container.get(name) is not None:
                yield errors.generic(f"{path}.{name}", "field not allowed in an init container")
        return
    if role is Role.SIDECAR and not pod.features.enabled(Feature.MULTI_CONTAINER_PROBING):
        for name in _PROBES:
            for field in sorted(container.get(name) or {}):
                yield errors.forbidden(f"{path}.{name}.{field}")
        return
    port_name = pod.port_name if role is Role.SERVING else None
    yield from check_probe(container.get("livenessProbe"), f"{path}.livenessProbe", port_name)
    yield from check_readiness_probe(container.get("readinessProbe"), f"{path}.readinessProbe", port_name)
    yield from check_probe(container.get("startupProbe"), f"{path}.startupProbe", port_name)


def _check_env(container: JsonView, path: str, role: Role, features: Features) -> Iterator[FieldError]:
    # Only the serving container gets PORT from Knative; in others the name is free.
    reserved = _RESERVED_ENV if role is Role.SERVING else _RESERVED_ENV - {"PORT"}
    sources = {"configMapKeyRef", "secretKeyRef"}
    if features.permitted(Feature.FIELD_REF):
        sources |= {"fieldRef", "resourceFieldRef"}
    for index, variable in enumerate(container.get("env") or []):
        at, name = f"{path}.env[{index}]", variable.get("name", "")
        if not name:
            yield errors.missing(f"{at}.name")
        elif name in reserved:
            yield errors.generic(f"{at}.name", f'"{name}" is a reserved environment variable')
        for source in sorted(set(variable.get("valueFrom") or {}) - sources):
            yield errors.forbidden(f"{at}.valueFrom.{source}")
    known = ("configMapRef", "secretRef")
    for index, source in enumerate(container.get("envFrom") or []):
        found = [name for name in known if source.get(name) is not None]
        yield from errors.exactly_one(f"{path}.envFrom[{index}]", found, known)


def _check_image(image: str, path: str) -> Iterator[FieldError]:
    if not image:
        yield errors.missing(path)
    elif not _is_image_reference(image):
        yield errors.generic(path, f'Failed to parse image reference: image: "{image}"')


def _is_image_reference(image: str) -> bool:
    rest, at, digest = image.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        return False
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        return False
    repository = f"{head}{slash}{last}"
    first, slash, remainder = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        repository = remainder  # The first part is a registry, which may have a port.
    return _REPOSITORY.fullmatch(repository) is not None


def _check_ports(ports: Sequence[JsonView], path: str, role: Role) -> Iterator[FieldError]:
    for index, port in enumerate(ports if role is Role.INIT else ports[:1]):
        number = port.get("containerPort", 0)
        for field in sorted(set(port) - {"containerPort", "name", "protocol"}):
            yield errors.forbidden(f"{path}[{index}].{field}")
        if number in RESERVED_PORTS:
            why = f"{number} is a reserved port, please use a different value"
            yield errors.invalid(f"{path}.containerPort", f"{number} is a reserved port", why)
        if not 0 <= number <= _PORT_MAX:
            yield errors.out_of_bounds(f"{path}.containerPort", number, 0, _PORT_MAX)
    if role is Role.INIT or not ports:
        return
    protocol, name = ports[0].get("protocol") or "TCP", ports[0].get("name", "")
    if protocol != "TCP":
        yield errors.invalid(f"{path}.protocol", protocol)
    if name not in _PORT_NAMES:
        yield errors.generic(path, f"Port name {name} is not allowed: Name must be empty, or one of: 'h2c', 'http1'")


def _check_security(context: JsonView, path: str, features: Features) -> Iterator[FieldError]:
    for field in sorted(set(context) - _SECURITY_FIELDS):
        yield errors.forbidden(f"{path}.{field}")
    if context.get("privileged"):
        yield errors.forbidden(f"{path}.privileged")
    added = (context.get("capabilities") or {}).get("add")
    secure = features.flag(Feature.SECURE_POD_DEFAULTS) is not Flag.DISABLED
    harmless = secure and added == ["NET_BIND_SERVICE"]
    if added and not harmless and not features.enabled(Feature.ADD_CAPABILITIES):
        yield errors.forbidden(f"{path}.capabilities.add")
    yield from check_ids(context, path, ("runAsUser", "runAsGroup"))


def check_ids(context: JsonView, path: str, fields: Sequence[str]) -> Iterator[FieldError]:
    """User and group ids fit into what Linux and Kubernetes take."""
    for field in fields:
        value = context.get(field)
        if value is not None and not 0 <= value <= _ID_MAX:
            yield errors.out_of_bounds(f"{path}.{field}", value, 0, _ID_MAX)
