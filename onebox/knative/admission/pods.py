"""The pod spec of a revision: which of its fields a user may set, and the checks of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from controller.base.errors import FieldError
from controller.base.json import JsonView
from onebox.knative.admission import errors
from onebox.knative.admission.containers import PodContext, Role, check_container, check_ids
from onebox.knative.admission.volumes import check_volumes
from onebox.knative.admission.words import is_subdomain
from onebox.knative.settings.features import Feature, Features, Flag

_FIELDS = frozenset(
    [
        "serviceAccountName",
        "containers",
        "volumes",
        "imagePullSecrets",
        "enableServiceLinks",
        "automountServiceAccountToken",
        "containerConcurrency",
        "timeoutSeconds",
        "responseStartTimeoutSeconds",
        "idleTimeoutSeconds",
    ]
)
_GATED_FIELDS: Mapping[str, Feature] = {
    "affinity": Feature.AFFINITY,
    "topologySpreadConstraints": Feature.TOPOLOGY_SPREAD_CONSTRAINTS,
    "hostAliases": Feature.HOST_ALIASES,
    "nodeSelector": Feature.NODE_SELECTOR,
    "runtimeClassName": Feature.RUNTIME_CLASS_NAME,
    "tolerations": Feature.TOLERATIONS,
    "securityContext": Feature.SECURITY_CONTEXT,
    "shareProcessNamespace": Feature.SHARE_PROCESS_NAMESPACE,
    "priorityClassName": Feature.PRIORITY_CLASS_NAME,
    "schedulerName": Feature.SCHEDULER_NAME,
    "initContainers": Feature.INIT_CONTAINERS,
    "dnsPolicy": Feature.DNS_POLICY,
    "dnsConfig": Feature.DNS_CONFIG,
    "hostIPC": Feature.HOST_IPC,
    "hostPID": Feature.HOST_PID,
    "hostNetwork": Feature.HOST_NETWORK,
}
_POD_SECURITY_FIELDS = frozenset(
    {"runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "supplementalGroups", "seccompProfile"}
)
_DEFAULT_PORT_NAME = "http"


def check_pod(spec: JsonView, path: str, features: Features) -> Iterator[FieldError]:
    """Everything that Knative would refuse in this pod spec."""
    yield from _check_fields(spec, path, features)
    yield from _check_security(spec.get("securityContext") or {}, f"{path}.securityContext", features)
    containers: Sequence[JsonView] = spec.get("containers") or []
    init_containers: Sequence[JsonView] = spec.get("initContainers") or []
    volumes: Sequence[JsonView] = spec.get("volumes") or []
    mounted = frozenset(
        mount.get("name", "")
        for container in (*init_containers, *containers)
        for mount in container.get("volumeMounts") or []
    )
    yield from check_volumes(volumes, mounted, f"{path}.volumes", features)
    pod = PodContext(
        volumes={volume.get("name", ""): volume for volume in volumes},
        port_name=_port_name(containers),
        features=features,
    )
    yield from _check_init_containers(init_containers, containers, path, pod)
    yield from _check_port_count(containers, path)
    yield from _check_containers(containers, path, pod)
    account = spec.get("serviceAccountName", "")
    if account and not is_subdomain(account):
        yield errors.invalid(f"{path}.serviceAccountName", account, "must be a lowercase RFC 1123 subdomain")


def _check_fields(spec: JsonView, path: str, features: Features) -> Iterator[FieldError]:
    for field in sorted(field for field, value in spec.items() if value and field not in _FIELDS):
        feature = _GATED_FIELDS.get(field)
        if feature is None or not features.permitted(feature):
            secure = field == "securityContext" and features.permitted(Feature.SECURE_POD_DEFAULTS)
            if not secure:
                yield (
                    _init_containers_off(spec, path)
                    if field == "initContainers"
                    else errors.forbidden(f"{path}.{field}")
                )
    if spec.get("automountServiceAccountToken"):
        yield errors.forbidden(f"{path}.automountServiceAccountToken")


def _init_containers_off(spec: JsonView, path: str) -> FieldError:
    count = len(spec.get("initContainers") or [])
    return errors.generic(
        f"{path}.initContainers",
        f"pod spec support for init-containers is off, but found {count} init containers "
        f"({Feature.INIT_CONTAINERS} in config-features)",
    )


def _check_security(context: JsonView, path: str, features: Features) -> Iterator[FieldError]:
    permitted = _POD_SECURITY_FIELDS if features.permitted(Feature.SECURITY_CONTEXT) else frozenset[str]()
    if features.flag(Feature.SECURE_POD_DEFAULTS) is not Flag.DISABLED:
        permitted |= {"seccompProfile"}
    for field in sorted(set(context) - permitted):
        yield errors.forbidden(f"{path}.{field}")
    yield from check_ids(context, path, ("runAsUser", "runAsGroup", "fsGroup"))


def _port_name(containers: Sequence[JsonView]) -> str:
    names = [port.get("name", "") for container in containers for port in (container.get("ports") or [])[:1]]
    return (names[-1] if names else "") or _DEFAULT_PORT_NAME


def _check_port_count(containers: Sequence[JsonView], path: str) -> Iterator[FieldError]:
    count = sum(len(container.get("ports") or []) for container in containers)
    if count == 0 and len(containers) > 1:
        yield errors.missing(f"{path}.containers[*].ports")
    elif count > 1:
        yield errors.generic(
            f"{path}.containers[*].ports",
            "more than one container port is set: Only a single port is allowed across all containers",
        )


def _check_init_containers(
    init_containers: Sequence[JsonView], containers: Sequence[JsonView], path: str, pod: PodContext
) -> Iterator[FieldError]:
    taken = {container.get("name", "") for container in containers}
    for index, container in enumerate(init_containers):
        at = f"{path}.initContainers[{index}]"
        if container.get("name") in taken:
            yield _duplicate(at, container)
        yield from check_container(container, at, Role.INIT, pod)


def _check_containers(containers: Sequence[JsonView], path: str, pod: PodContext) -> Iterator[FieldError]:
    if not containers:
        yield errors.missing(f"{path}.containers")
    if len(containers) > 1 and not pod.features.enabled(Feature.MULTI_CONTAINER):
        yield errors.generic(f"{path}.containers", f"multi-container is off, but found {len(containers)} containers")
        return
    taken: set[str] = set()
    for index, container in enumerate(containers):
        at, name = f"{path}.containers[{index}]", container.get("name", "")
        if name in taken:
            yield _duplicate(at, container)
        taken.add(name)
        serving = len(containers) == 1 or container.get("ports")
        yield from check_container(container, at, Role.SERVING if serving else Role.SIDECAR, pod)


def _duplicate(path: str, container: JsonView) -> FieldError:
    name = container.get("name", "")
    return FieldError(field=f"{path}.name", message=f'duplicate container name "{name}"', cause="FieldValueDuplicate")
