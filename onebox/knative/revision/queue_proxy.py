"""The container `queue-proxy` of a revision's pods, and the readiness probe that it runs for the serving container (pure).

On onebox it has a process of its own only beside a container that is none of our runtimes; but its environment and ports
are the contract with whatever does its work.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from controller.api.core import Container, Probe
from controller.api.knative import Revision
from controller.api.meta import controller_of
from controller.base.json import JsonObject
from controller.base.names import KSVC_LABEL
from onebox.knative.names import (
    FULL_DUPLEX_ANNOTATION,
    H2C_PORT_NAME,
    QUEUE_CONTAINER,
    QUEUE_HTTP2_PORT,
    QUEUE_HTTP_PORT,
    QUEUE_HTTPS_PORT,
    QUEUE_METRICS_PORT,
    QUEUE_STATS_PORT,
    USER_PORT,
)
from onebox.knative.settings import CONFIG_NAMESPACE, DeploymentSettings, Feature, ServingSettings

_LOCALHOST = "127.0.0.1"
_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")
_SIDECAR_DEFAULTS = {"requests": {"cpu": "25m", "memory": "400Mi"}, "limits": {"cpu": "1000m", "memory": "800Mi"}}
"""Knative's, where the feature queueproxy.resource-defaults is on."""
_RESOURCE_ANNOTATION = "queue.sidecar.serving.knative.dev/{name}-resource-{bound}"

_REQUEST_LOG_TEMPLATE = (
    '{"httpRequest": {"requestMethod": "{{.Request.Method}}", "requestUrl": "{{js .Request.RequestURI}}", '
    '"requestSize": "{{.Request.ContentLength}}", "status": {{.Response.Code}}, '
    '"responseSize": "{{.Response.Size}}", "userAgent": "{{js .Request.UserAgent}}", '
    '"remoteIp": "{{js .Request.RemoteAddr}}", "serverIp": "{{.Revision.PodIP}}", '
    '"referer": "{{js .Request.Referer}}", "latency": "{{.Response.Latency}}s", "protocol": "{{.Request.Proto}}"}, '
    '"traceId": "{{.TraceID}}"}'
)
_OBSERVABILITY = {
    "tracing": {"protocol": "none"},
    "metrics": {"protocol": "none"},
    "runtime": {"profiling": "disabled", "exportInterval": 15_000_000_000},
    "requestMetrics": {"protocol": "none"},
    "requestLogTemplate": _REQUEST_LOG_TEMPLATE,
}
"""Knative's config-observability by default; the interval is in nanoseconds."""


def user_port(revision: Revision) -> int:
    """Where the serving container listens."""
    ports = revision.spec.serving_container().ports
    return ports[0].containerPort if ports and ports[0].containerPort else USER_PORT


def is_h2c(revision: Revision) -> bool:
    """Whether the serving container wants HTTP/2 without TLS."""
    ports = revision.spec.serving_container().ports
    return bool(ports) and ports[0].name == H2C_PORT_NAME


def serving_port(revision: Revision) -> int:
    """The port where the revision's pods take requests."""
    return QUEUE_HTTP2_PORT if is_h2c(revision) else QUEUE_HTTP_PORT


def build_queue_proxy(revision: Revision, settings: ServingSettings) -> JsonObject:
    """The container as JSON."""
    container: JsonObject = {
        "name": QUEUE_CONTAINER,
        "image": settings.deployment.queue_image,
        "resources": _resources(revision, settings),
        "ports": [
            _port(QUEUE_STATS_PORT, "http-autometric"),
            _port(QUEUE_METRICS_PORT, "http-usermetric"),
            _port(serving_port(revision), "queue-port"),
            _port(QUEUE_HTTPS_PORT, "https-port"),
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "env": list(_environment(revision, settings)),
    }
    probe = revision.spec.serving_container().readinessProbe
    if probe is not None:
        container["readinessProbe"] = _kubelet_probe(probe, serving_port(revision))
    return container


def readiness_probe(probe: Probe, port: int) -> JsonObject:
    """The user's probe as the queue-proxy runs it: on loopback, with the real port, in the order of Knative's JSON."""
    set_fields = probe.to_json()
    encoded: JsonObject = {}
    if probe.httpGet is not None:
        get = probe.httpGet
        order = {"path": get.path if "path" in get.model_fields_set else None, "port": get.port or port}
        encoded["httpGet"] = {
            **{name: value for name, value in order.items() if value is not None},
            "host": _LOCALHOST,
            "scheme": get.scheme,
            **({"httpHeaders": [header.to_json() for header in get.httpHeaders]} if get.httpHeaders else {}),
        }
    elif probe.grpc is not None:
        encoded["grpc"] = {"port": probe.grpc.port or port, "service": probe.grpc.service}
    else:
        # A command cannot be run from another container: kubelet does that, and this only looks whether the port opens.
        wanted = probe.tcpSocket.port if probe.tcpSocket is not None else 0
        encoded["tcpSocket"] = {"port": wanted or port, "host": _LOCALHOST}
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if set_fields.get(name):
            encoded[name] = set_fields[name]
    return encoded


def _kubelet_probe(probe: Probe, port: int) -> JsonObject:
    """What asks the queue-proxy: the user's times, but its own port and header."""
    times = {name: value for name, value in probe.to_json().items() if name not in _HANDLERS}
    return {**times, "httpGet": {"port": port, "httpHeaders": [{"name": "K-Network-Probe", "value": "queue"}]}}


def _environment(revision: Revision, settings: ServingSettings) -> Iterable[JsonObject]:
    meta, spec, deployment = revision.metadata, revision.spec, settings.deployment
    owner = controller_of(meta)
    duplex = meta.annotations.get(FULL_DUPLEX_ANNOTATION, "").lower() == "enabled"
    yield _variable("SERVING_NAMESPACE", meta.namespace)
    yield _variable("SERVING_SERVICE", meta.labels.get(KSVC_LABEL, ""))
    yield _variable("SERVING_CONFIGURATION", owner.name if owner and owner.kind == "Configuration" else "")
    yield _variable("SERVING_REVISION", meta.name)
    yield _variable("QUEUE_SERVING_PORT", serving_port(revision))
    yield _variable("QUEUE_SERVING_TLS_PORT", QUEUE_HTTPS_PORT)
    yield _variable("CONTAINER_CONCURRENCY", spec.containerConcurrency or 0)
    yield _variable("REVISION_TIMEOUT_SECONDS", spec.timeoutSeconds or 0)
    yield _variable("REVISION_RESPONSE_START_TIMEOUT_SECONDS", spec.responseStartTimeoutSeconds or 0)
    yield _variable("REVISION_IDLE_TIMEOUT_SECONDS", spec.idleTimeoutSeconds or 0)
    yield _field("SERVING_POD", "metadata.name")
    yield _field("SERVING_POD_IP", "status.podIP")
    yield _variable("SERVING_LOGGING_CONFIG", "")
    yield _variable("SERVING_LOGGING_LEVEL", "")
    yield _variable("USER_PORT", user_port(revision))
    yield _variable("SYSTEM_NAMESPACE", CONFIG_NAMESPACE)
    yield _variable("SERVING_READINESS_PROBE", _encoded_probes(revision, settings))
    yield _field("HOST_IP", "status.hostIP")
    yield _variable("ENABLE_HTTP2_AUTO_DETECTION", _word(settings.features.enabled(Feature.AUTO_DETECT_HTTP2)))
    yield _variable("ENABLE_HTTP_FULL_DUPLEX", _word(duplex))
    yield from _tls_environment(deployment)
    yield _variable("ENABLE_MULTI_CONTAINER_PROBES", _word(settings.features.enabled(Feature.MULTI_CONTAINER_PROBING)))
    yield _variable("OBSERVABILITY_CONFIG", orjson.dumps(_OBSERVABILITY).decode())


def _tls_environment(deployment: DeploymentSettings) -> Iterable[JsonObject]:
    yield _variable("ROOT_CA", deployment.queue_root_ca)
    yield _variable("QUEUE_PROXY_TLS_MIN_VERSION", deployment.queue_tls_min_version)
    yield _variable("QUEUE_PROXY_TLS_MAX_VERSION", deployment.queue_tls_max_version)
    yield _variable("QUEUE_PROXY_TLS_CIPHER_SUITES", deployment.queue_tls_cipher_suites)
    yield _variable("QUEUE_PROXY_TLS_CURVE_PREFERENCES", deployment.queue_tls_curve_preferences)


def _encoded_probes(revision: Revision, settings: ServingSettings) -> str:
    serving = revision.spec.serving_container()
    probes = [readiness_probe(serving.readinessProbe, user_port(revision))] if serving.readinessProbe else []
    if not settings.features.enabled(Feature.MULTI_CONTAINER_PROBING):
        return orjson.dumps(probes[0]).decode() if probes else ""
    sidecars = [container for container in revision.spec.containers if container is not serving]
    probes += [readiness_probe(probe, 0) for container in sidecars if (probe := _probe_with_port(container))]
    return orjson.dumps(probes).decode() if probes else ""


def _probe_with_port(container: Container) -> Probe | None:
    probe = container.readinessProbe
    return None if probe is None or probe.exec is not None else probe


def _resources(revision: Revision, settings: ServingSettings) -> JsonObject:
    """config-deployment's, with Knative's defaults where they are asked for, and the revision's annotations on top."""
    configured = {"requests": settings.deployment.queue_requests, "limits": settings.deployment.queue_limits}
    with_defaults = settings.features.enabled(Feature.QUEUE_PROXY_RESOURCE_DEFAULTS)
    resources: JsonObject = {}
    for kind, bound in (("requests", "request"), ("limits", "limit")):
        quantities = {**(_SIDECAR_DEFAULTS[kind] if with_defaults else {}), **configured[kind]}
        for name in ("cpu", "memory", "ephemeral-storage"):
            annotation = _RESOURCE_ANNOTATION.format(name=name, bound=bound)
            if value := revision.metadata.annotations.get(annotation):
                quantities[name] = value
        if quantities:
            resources[kind] = quantities
    return resources


def _port(number: int, name: str) -> JsonObject:
    return {"containerPort": number, "name": name, "protocol": "TCP"}


def _variable(name: str, value: object) -> JsonObject:
    return {"name": name, "value": str(value)} if value != "" else {"name": name}


def _field(name: str, path: str) -> JsonObject:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _word(value: bool) -> str:
    return "true" if value else "false"
