"""A pod as the node reads it: parsed once at the edge, immutable, with Kubernetes' defaults filled in. (pure)

Only what a process on one machine can honour is here; node selectors, security contexts and the like are ignored, since
the API server has validated them and this node has one kernel user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from controller.base.json import JsonView
from onebox.node.probe_spec import Handler, Probe, parse_handler, parse_probe

DEFAULT_GRACE_S = 30
"""Kubernetes' default of spec.terminationGracePeriodSeconds."""
QUEUE_PROXY = "queue-proxy"
"""Knative's name for its sidecar; reserved, so no user container has it."""


class RestartPolicy(StrEnum):
    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class SourceKind(StrEnum):
    """Where a value or a volume comes from."""

    CONFIG_MAP = "configmap"
    SECRET = "secret"  # noqa: S105  # The kind's name, no secret.
    FIELD = "field"
    RESOURCE_FIELD = "resourcefield"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSource:
    """`valueFrom`: a key of a ConfigMap or Secret, a field of the pod, or a resource of one of its containers."""

    kind: SourceKind
    name: str = ""
    key: str = ""
    """Key in the ConfigMap or Secret; field path; or resource such as `limits.cpu`."""
    optional: bool = False
    container: str = ""
    divisor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    name: str
    value: str = ""
    source: ValueSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFrom:
    """Every key of a ConfigMap or Secret as a variable, with `prefix` before its name."""

    kind: SourceKind
    name: str
    prefix: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    volume: str
    path: str
    sub_path: str = ""
    sub_path_expr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    number: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    mounts: tuple[Mount, ...] = ()
    ports: tuple[Port, ...] = ()
    working_dir: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    pre_stop: Handler | None = None
    termination_path: str = "/dev/termination-log"
    logs_are_message: bool = False
    """terminationMessagePolicy FallbackToLogsOnError."""
    keeps_running: bool = False
    """An init container with restartPolicy Always: Kubernetes' native sidecar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """One file of a volume: a key (or field path) and where it goes, relative to the mount."""

    key: str
    path: str
    mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """Files made from a ConfigMap, a Secret or the pod's fields. Without `items`, one file for each key."""

    kind: SourceKind
    name: str = ""
    items: tuple[KeyFile, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Exactly one of: files from sources, a path of this machine, a claim, or (neither) an empty directory."""

    name: str
    sources: tuple[FileSource, ...] = ()
    mode: int = 0o644
    host_path: str = ""
    host_path_type: str = ""
    claim: str = ""
    unsupported: str = ""
    """The volume's kind where this node has none such, e.g. `nfs`."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    init_containers: tuple[Container, ...] = ()
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    grace_s: int = DEFAULT_GRACE_S
    deletion_grace_s: int | None = None
    """Seconds that the deletion allows; None while nobody has asked for the pod's deletion."""
    active_deadline_s: int | None = None
    host_network: bool = False
    service_account: str = "default"

    @property
    def deleting(self) -> bool:
        return self.deletion_grace_s is not None

    @cached_property
    def all_containers(self) -> tuple[Container, ...]:
        """Init containers in their order, then the others."""
        return (*self.init_containers, *self.containers)

    def container(self, name: str) -> Container:
        return next(container for container in self.all_containers if container.name == name)

    @property
    def has_queue_proxy(self) -> bool:
        return any(container.name == QUEUE_PROXY for container in self.containers)


def parse_pod(value: JsonView) -> Pod:
    """The pod that this object describes; the API server has checked its form."""
    meta, spec = value["metadata"], value.get("spec") or {}
    return Pod(
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        uid=meta["uid"],
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        init_containers=tuple(_container(item, init=True) for item in spec.get("initContainers") or ()),
        containers=tuple(_container(item) for item in spec.get("containers") or ()),
        volumes=tuple(_volume(item) for item in spec.get("volumes") or ()),
        restart_policy=RestartPolicy(spec.get("restartPolicy") or RestartPolicy.ALWAYS),
        grace_s=_number(spec, "terminationGracePeriodSeconds", DEFAULT_GRACE_S),
        deletion_grace_s=_deletion_grace_s(meta, spec),
        active_deadline_s=spec.get("activeDeadlineSeconds"),
        host_network=bool(spec.get("hostNetwork")),
        service_account=spec.get("serviceAccountName") or "default",
    )


def _deletion_grace_s(meta: JsonView, spec: JsonView) -> int | None:
    if not meta.get("deletionTimestamp"):
        return None
    return _number(meta, "deletionGracePeriodSeconds", _number(spec, "terminationGracePeriodSeconds", DEFAULT_GRACE_S))


def _number(value: JsonView, name: str, default: int) -> int:
    found = value.get(name)
    return default if found is None else int(found)


def _container(value: JsonView, *, init: bool = False) -> Container:
    resources = value.get("resources") or {}
    keeps_running = init and value.get("restartPolicy") == RestartPolicy.ALWAYS
    return Container(
        name=value["name"],
        image=value.get("image", ""),
        command=tuple(value.get("command") or ()),
        args=tuple(value.get("args") or ()),
        env=tuple(_env_var(item) for item in value.get("env") or ()),
        env_from=tuple(_env_from(item) for item in value.get("envFrom") or ()),
        mounts=tuple(_mount(item) for item in value.get("volumeMounts") or ()),
        ports=tuple(
            Port(number=int(item["containerPort"]), name=item.get("name", "")) for item in value.get("ports") or ()
        ),
        working_dir=value.get("workingDir", ""),
        limits=_texts(resources.get("limits")),
        requests=_texts(resources.get("requests")),
        startup=parse_probe(value.get("startupProbe")),
        readiness=parse_probe(value.get("readinessProbe")),
        liveness=parse_probe(value.get("livenessProbe")),
        pre_stop=parse_handler((value.get("lifecycle") or {}).get("preStop") or {}),
        termination_path=value.get("terminationMessagePath") or "/dev/termination-log",
        logs_are_message=value.get("terminationMessagePolicy") == "FallbackToLogsOnError",
        keeps_running=keeps_running,
    )


def _texts(value: JsonView | None) -> dict[str, str]:
    """Quantities may come as JSON numbers."""
    return {name: str(amount) for name, amount in (value or {}).items()}


def _env_var(value: JsonView) -> EnvVar:
    source = value.get("valueFrom") or {}
    parsed: ValueSource | None = None
    if ref := source.get("configMapKeyRef"):
        parsed = _key_source(SourceKind.CONFIG_MAP, ref)
    elif ref := source.get("secretKeyRef"):
        parsed = _key_source(SourceKind.SECRET, ref)
    elif ref := source.get("fieldRef"):
        parsed = ValueSource(kind=SourceKind.FIELD, key=ref.get("fieldPath", ""))
    elif ref := source.get("resourceFieldRef"):
        parsed = ValueSource(
            kind=SourceKind.RESOURCE_FIELD,
            key=ref.get("resource", ""),
            container=ref.get("containerName", ""),
            divisor=str(ref.get("divisor", "")),
        )
    return EnvVar(name=value["name"], value=value.get("value") or "", source=parsed)


def _key_source(kind: SourceKind, ref: JsonView) -> ValueSource:
    return ValueSource(kind=kind, name=ref.get("name", ""), key=ref.get("key", ""), optional=bool(ref.get("optional")))


def _env_from(value: JsonView) -> EnvFrom:
    kind, ref = (
        (SourceKind.SECRET, value["secretRef"])
        if "secretRef" in value
        else (SourceKind.CONFIG_MAP, value.get("configMapRef") or {})
    )
    return EnvFrom(
        kind=kind, name=ref.get("name", ""), prefix=value.get("prefix") or "", optional=bool(ref.get("optional"))
    )


def _mount(value: JsonView) -> Mount:
    return Mount(
        volume=value["name"],
        path=value["mountPath"],
        sub_path=value.get("subPath") or "",
        sub_path_expr=value.get("subPathExpr") or "",
    )


def _volume(value: JsonView) -> Volume:
    name = value["name"]
    kind = next((key for key in value if key != "name"), "emptyDir")
    source = value.get(kind) or {}
    match kind:
        case "emptyDir" | "ephemeral":
            return Volume(name=name)
        case "configMap" | "secret" | "downwardAPI":
            default = 0o600 if kind == "secret" else 0o644
            return Volume(
                name=name, sources=tuple(_file_sources({kind: source})), mode=_number(source, "defaultMode", default)
            )
        case "projected":
            sources = tuple(part for item in source.get("sources") or () for part in _file_sources(item))
            return Volume(name=name, sources=sources, mode=_number(source, "defaultMode", 0o644))
        case "hostPath":
            return Volume(name=name, host_path=source["path"], host_path_type=source.get("type") or "")
        case "persistentVolumeClaim":
            return Volume(name=name, claim=source["claimName"])
        case _:
            return Volume(name=name, unsupported=kind)


def _file_sources(value: JsonView) -> Iterator[FileSource]:
    if ref := value.get("configMap"):
        yield _file_source(SourceKind.CONFIG_MAP, ref.get("name", ""), ref)
    if ref := value.get("secret"):
        yield _file_source(SourceKind.SECRET, ref.get("secretName") or ref.get("name", ""), ref)
    if ref := value.get("downwardAPI"):
        items = tuple(
            KeyFile(key=(item.get("fieldRef") or {}).get("fieldPath", ""), path=item["path"], mode=item.get("mode"))
            for item in ref.get("items") or ()
        )
        yield FileSource(kind=SourceKind.FIELD, items=items)


def _file_source(kind: SourceKind, name: str, ref: JsonView) -> FileSource:
    items = tuple(KeyFile(key=item["key"], path=item["path"], mode=item.get("mode")) for item in ref.get("items") or ())
    return FileSource(kind=kind, name=name, items=items, optional=bool(ref.get("optional")))
