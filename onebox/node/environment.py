"""The environment of a container's process: valueFrom, envFrom, $(VAR), and what Ladle's runtimes expect. (pure)"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.api.quantity import parse_quantity
from controller.base.errors import UserError
from onebox.node.spec import Container, EnvVar, Pod, SourceKind, ValueSource

POD_IP = "127.0.0.1"
NODE_NAME = "onebox"
CONFIG_ERROR = "CreateContainerConfigError"
"""Kubelet's reason for a container whose environment refers to something that is not there."""

INHERITED = (
    *(
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "VIRTUAL_ENV",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME", "HF_HOME"),
    *("LADLE_STORAGE_CACHE", "LADLE_STORAGE_CACHE_MAX_BYTES"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
"""What a process gets from the node's own environment: where things are on this machine, and nothing secret."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Numeric libraries start a thread for each core of the machine unless told the container's limit."""

_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")

Files = Mapping[str, bytes]
"""Keys and values of a ConfigMap or Secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the environment of a pod's containers may be made of, other than the pod itself."""

    objects: Mapping[tuple[SourceKind, str], Files | None]
    """The ConfigMaps and Secrets that the pod names; None for one that is not there."""
    cpus: int
    """Of the machine: what a limit that is not given comes to."""
    memory_bytes: int


def build_environment(
    pod: Pod, container: Container, around: Surroundings, *, fixed: Mapping[str, str]
) -> dict[str, str]:
    """The variables of a container; `fixed` ones are the node's own and win over the container's.

    UserError(CreateContainerConfigError) where a ConfigMap, a Secret or a key of one is missing and not optional.
    """
    variables = {**_from_objects(container, around), **fixed}
    for variable in container.env:
        if variable.name not in fixed:
            value = _value(pod, container, variable, around, expand=lambda text: expand(text, variables))
            if value is not None:
                variables[variable.name] = value
    return variables


def thread_limits(container: Container) -> dict[str, str]:
    """Thread counts for numeric libraries, from the container's CPU limit; {} where it has none."""
    limit = container.limits.get("cpu")
    if not limit:
        return {}
    threads = str(max(1, math.ceil(parse_quantity(limit))))
    return dict.fromkeys(THREAD_VARIABLES, threads)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with $(NAME) replaced; $$ stands for $, and what is not defined stays as it is.

    >>> expand("$(A)-$(B)-$$(A)", {"A": "1"})
    '1-$(B)-$(A)'
    """

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(replaced, text)


def referenced_objects(pod: Pod) -> set[tuple[SourceKind, str]]:
    """Every ConfigMap and Secret that an environment or a volume of the pod names."""
    found = set()
    for container in pod.all_containers:
        found |= {(source.kind, source.name) for source in container.env_from}
        found |= {(variable.source.kind, variable.source.name) for variable in container.env if variable.source}
    found |= {(source.kind, source.name) for volume in pod.volumes for source in volume.sources}
    return {(kind, name) for kind, name in found if kind in (SourceKind.CONFIG_MAP, SourceKind.SECRET)}


def field_value(pod: Pod, path: str) -> str:
    """A field of the pod for the downward API; UserError for a path that Kubernetes' API has not either."""
    if match := _SUBSCRIPT.match(path):
        return (pod.labels if match[1] == "labels" else pod.annotations).get(match[2], "")
    values: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: pod.name,
        "metadata.namespace": lambda: pod.namespace,
        "metadata.uid": lambda: pod.uid,
        "metadata.labels": lambda: _as_lines(pod.labels),
        "metadata.annotations": lambda: _as_lines(pod.annotations),
        "spec.nodeName": lambda: NODE_NAME,
        "spec.serviceAccountName": lambda: pod.service_account,
        "status.podIP": lambda: POD_IP,
        "status.podIPs": lambda: POD_IP,
        "status.hostIP": lambda: POD_IP,
        "status.hostIPs": lambda: POD_IP,
    }
    if path not in values:
        raise UserError(CONFIG_ERROR, f"unsupported fieldPath: {path}")
    return values[path]()


def _as_lines(values: Mapping[str, str]) -> str:
    """As kubelet writes them into a file: `key="value"`, sorted."""
    escaped = (
        (key, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for key, value in values.items()
    )
    return "\n".join(f'{key}="{value}"' for key, value in sorted(escaped))


def _from_objects(container: Container, around: Surroundings) -> dict[str, str]:
    merged: dict[str, str] = {}  # Later entries win over earlier ones, as in Kubernetes.
    for source in container.env_from:
        files = around.objects.get((source.kind, source.name))
        if files is not None:
            merged |= {source.prefix + key: value.decode(errors="replace") for key, value in files.items()}
        elif not source.optional:
            raise _missing(source.kind, source.name)
    return merged


def _value(
    pod: Pod, container: Container, variable: EnvVar, around: Surroundings, *, expand: Callable[[str], str]
) -> str | None:
    source = variable.source
    if source is None:
        return expand(variable.value)
    if source.kind is SourceKind.FIELD:
        return field_value(pod, source.key)
    if source.kind is SourceKind.RESOURCE_FIELD:
        return _resource_value(pod.container(source.container) if source.container else container, source, around)
    files = around.objects.get((source.kind, source.name))
    if files is not None and source.key in files:
        return files[source.key].decode(errors="replace")
    if source.optional:
        return None
    if files is None:
        raise _missing(source.kind, source.name)
    kind = "ConfigMap" if source.kind is SourceKind.CONFIG_MAP else "Secret"
    raise UserError(CONFIG_ERROR, f"couldn't find key {source.key} in {kind} {pod.namespace}/{source.name}")


def _missing(kind: SourceKind, name: str) -> UserError:
    return UserError(CONFIG_ERROR, f'{kind} "{name}" not found')


def _resource_value(container: Container, source: ValueSource, around: Surroundings) -> str:
    group, _, resource = source.key.partition(".")
    amounts = container.limits if group == "limits" else container.requests
    machine = {"cpu": str(around.cpus), "memory": str(around.memory_bytes)} if group == "limits" else {}
    amount = parse_quantity(amounts.get(resource) or machine.get(resource, "0"))
    divisor = parse_quantity(source.divisor) if source.divisor not in ("", "0") else parse_quantity("1")
    return str(math.ceil(amount / divisor))
