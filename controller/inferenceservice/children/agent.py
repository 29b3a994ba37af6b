"""KServe's agent as a container of the Knative Service, where a component asks for a batcher or a logger. (pure)

KServe's pod webhook puts it into every pod and bends the queue-proxy's port behind Knative's back; here it stands in the
Knative Service as the container that takes requests, and passes them on to the component's own (spec/kserve.md 2.9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import orjson

from controller.api.core import (
    ConfigMapSource,
    Container,
    ContainerPort,
    EnvVar,
    HttpGetAction,
    HttpHeader,
    PodSpec,
    Probe,
    ResourceRequirements,
    Volume,
    VolumeMount,
)
from controller.api.inferenceservice import Logger
from controller.base.json import JsonObject
from controller.inferenceservice.components import Component, ComponentKind
from controller.inferenceservice.config import AgentSettings, LoggerSettings
from controller.inferenceservice.credentials import Access

AGENT: Final = "agent"
AGENT_PORT: Final = 9081
_COMPONENT_PORT: Final = 8080
"""Where a container listens that names no port."""
_LOCALHOST: Final = "127.0.0.1"
_READINESS_ENV: Final = "SERVING_READINESS_PROBE"
_PORT_ENV: Final = "PORT"
_QUEUE_PROBE: Final = HttpHeader(name="K-Network-Probe", value="queue")
_LOG_EVERYTHING: Final = "all"
_FORMAT_PARAMETER: Final = "format"
_CA_VOLUME: Final = "agent-ca-bundle"
_CA_DIRECTORY: Final = "/etc/tls/logger"
"""Where the agent looks for the certificate authorities of the place that it logs to."""


def add_agent(
    pod: PodSpec,
    component: Component,
    settings: AgentSettings,
    *,
    annotations: Mapping[str, str],
    access: Access,
) -> PodSpec:
    """The pod with the agent in front of its serving container; as it is where nothing asks for one.

    `annotations` are the service's, `access` is how the agent gets at the place where a logger stores.
    """
    given = {**annotations, **component.spec.annotations}
    arguments = [*_batcher_arguments(component), *_logger_arguments(component, settings.logger, given)]
    if not arguments:
        return pod
    served = next((item for item in pod.containers if item.ports), pod.containers[0])
    port = served.ports[0].containerPort if served.ports else _COMPONENT_PORT
    agent = Container(
        name=AGENT,
        image=settings.image,
        args=[*arguments, "--component-port", str(port)],
        ports=[ContainerPort(containerPort=AGENT_PORT)],
        env=[
            EnvVar(name=_READINESS_ENV, value=orjson.dumps(_readiness(served.readinessProbe, port)).decode()),
            *access.env,
        ],
        readinessProbe=Probe(httpGet=HttpGetAction(path="/", port=AGENT_PORT, httpHeaders=[_QUEUE_PROBE])),
        resources=ResourceRequirements(
            requests={"cpu": settings.cpu_request, "memory": settings.memory_request},
            limits={"cpu": settings.cpu_limit, "memory": settings.memory_limit},
        ),
    )
    mounts, volumes = list(access.mounts), list(access.volumes)
    if component.spec.logger is not None and settings.logger.ca_bundle:
        mounts.append(VolumeMount(name=_CA_VOLUME, mountPath=_CA_DIRECTORY, readOnly=True))
        # Optional as in KServe: where the map is missing the log is lost and not the service.
        source = ConfigMapSource(name=settings.logger.ca_bundle, optional=True)
        volumes.append(Volume(name=_CA_VOLUME, configMap=source))
    if mounts:
        agent = agent.replace(volumeMounts=mounts)
    known = {item.name for item in pod.volumes}
    others = [_behind(item, port) if item is served else item for item in pod.containers]
    pod = pod.replace(containers=[*others, agent])
    added = [item for item in volumes if item.name not in known]
    return pod.replace(volumes=[*pod.volumes, *added]) if added else pod


def _batcher_arguments(component: Component) -> Iterator[str]:
    batcher = component.spec.batcher
    if batcher is None or component.kind is ComponentKind.EXPLAINER:  # KServe's explainers have none.
        return
    yield "--enable-batcher"
    if batcher.maxBatchSize:
        yield from ("--max-batchsize", str(batcher.maxBatchSize))
    if batcher.maxLatency:
        yield from ("--max-latency", str(batcher.maxLatency))


def _logger_arguments(component: Component, settings: LoggerSettings, annotations: Mapping[str, str]) -> Iterator[str]:
    logger = component.spec.logger
    if logger is None:
        return
    yield from ("--log-url", logger.url or settings.default_url)
    yield from ("--source-uri", "")  # As KServe's, whose webhook does not know the pod's name yet.
    yield from ("--log-mode", logger.mode or _LOG_EVERYTHING)
    yield from ("--inference-service", component.service_name)
    yield from ("--namespace", component.namespace)
    yield from ("--endpoint", "")
    yield from ("--component", component.kind.value)
    yield from _store_arguments(logger, settings)
    if logger.metadataHeaders:
        yield from ("--metadata-headers", ",".join(logger.metadataHeaders))
    if logger.metadataAnnotations:
        pairs = (f"{name}={annotations[name]}" for name in logger.metadataAnnotations if name in annotations)
        yield from ("--metadata-annotations", ",".join(pairs))
    if settings.ca_cert_file:
        yield from ("--logger-ca-cert-file", settings.ca_cert_file)
    yield from ("--logger-tls-skip-verify", "true" if settings.skip_tls_verify else "false")


def _store_arguments(logger: Logger, settings: LoggerSettings) -> Iterator[str]:
    storage = logger.storage
    if storage is not None and storage.path:
        yield from ("--log-store-path", storage.path)
    if storage is not None and (storage.parameters or {}).get(_FORMAT_PARAMETER):
        yield from ("--log-store-format", (storage.parameters or {})[_FORMAT_PARAMETER])
    marshaller = logger.marshallerUrl or settings.marshaller_url
    if marshaller:
        yield from ("--log-marshaller-url", marshaller)
    size = settings.batch_size if logger.batchSize is None else logger.batchSize
    if size:
        yield from ("--log-batch-size", str(size))
    interval = logger.batchInterval or settings.batch_interval
    if interval:
        yield from ("--log-batch-interval", interval)


def _behind(served: Container, port: int) -> Container:
    """The container as it is behind the agent: Knative allows one port and one readiness probe, and these are the agent's."""
    kept = {name: value for name, value in served.to_json().items() if name not in ("ports", "readinessProbe")}
    behind = Container.parse(kept)
    if any(item.name == _PORT_ENV for item in behind.env):
        return behind
    return behind.replace(env=[*behind.env, EnvVar(name=_PORT_ENV, value=str(port))])


def _readiness(probe: Probe | None, port: int) -> JsonObject:
    """The probe that the agent runs for the container, in the form in which Knative tells its queue-proxy."""
    if probe is None or (probe.httpGet is None and probe.tcpSocket is None):
        return {"tcpSocket": {"port": port, "host": _LOCALHOST}, "successThreshold": 1}
    encoded = probe.to_json()
    for name in ("httpGet", "tcpSocket"):
        if name in encoded:
            encoded[name] = {**encoded[name], "port": encoded[name].get("port") or port, "host": _LOCALHOST}
    return encoded
