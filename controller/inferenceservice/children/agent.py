"""KServe's agent as a container of the Knative Service, where a component asks for a batcher or a logger. (pure)

KServe's pod webhook puts it into every pod and bends the queue-proxy's port behind Knative's back; here it stands in the
Knative Service as the container that takes requests, and passes them on to the component's own (spec/kserve.md 2.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from controller.api.core import (
    Container,
    ContainerPort,
    EnvVar,
    HttpGetAction,
    HttpHeader,
    PodSpec,
    Probe,
    ResourceRequirements,
)
from controller.base.json import JsonObject
from controller.inferenceservice.components import Component, ComponentKind
from controller.inferenceservice.config import AgentSettings

AGENT: Final = "agent"
AGENT_PORT: Final = 9081
_COMPONENT_PORT: Final = 8080
"""Where a container listens that names no port."""
_LOCALHOST: Final = "127.0.0.1"
_READINESS_ENV: Final = "SERVING_READINESS_PROBE"
_PORT_ENV: Final = "PORT"
_QUEUE_PROBE: Final = HttpHeader(name="K-Network-Probe", value="queue")
_LOG_EVERYTHING: Final = "all"


def add_agent(pod: PodSpec, component: Component, settings: AgentSettings) -> PodSpec:
    """The pod with the agent in front of its serving container; as it is where nothing asks for one."""
    arguments = [*_batcher_arguments(component), *_logger_arguments(component, settings)]
    if not arguments:
        return pod
    served = next((item for item in pod.containers if item.ports), pod.containers[0])
    port = served.ports[0].containerPort if served.ports else _COMPONENT_PORT
    agent = Container(
        name=AGENT,
        image=settings.image,
        args=[*arguments, "--component-port", str(port)],
        ports=[ContainerPort(containerPort=AGENT_PORT)],
        env=[EnvVar(name=_READINESS_ENV, value=orjson.dumps(_readiness(served.readinessProbe, port)).decode())],
        readinessProbe=Probe(httpGet=HttpGetAction(path="/", port=AGENT_PORT, httpHeaders=[_QUEUE_PROBE])),
        resources=ResourceRequirements(
            requests={"cpu": settings.cpu_request, "memory": settings.memory_request},
            limits={"cpu": settings.cpu_limit, "memory": settings.memory_limit},
        ),
    )
    others = [_behind(item, port) if item is served else item for item in pod.containers]
    return pod.replace(containers=[*others, agent])


def _batcher_arguments(component: Component) -> Iterator[str]:
    batcher = component.spec.batcher
    if batcher is None or component.kind is ComponentKind.EXPLAINER:  # KServe's explainers have none.
        return
    yield "--enable-batcher"
    if batcher.maxBatchSize:
        yield from ("--max-batchsize", str(batcher.maxBatchSize))
    if batcher.maxLatency:
        yield from ("--max-latency", str(batcher.maxLatency))


def _logger_arguments(component: Component, settings: AgentSettings) -> Iterator[str]:
    logger = component.spec.logger
    if logger is None:
        return
    yield from ("--log-url", logger.url or settings.default_log_url)
    yield from ("--source-uri", "")  # As KServe's, whose webhook does not know the pod's name yet.
    yield from ("--log-mode", logger.mode or _LOG_EVERYTHING)
    yield from ("--inference-service", component.service_name)
    yield from ("--namespace", component.namespace)
    yield from ("--endpoint", "")
    yield from ("--component", component.kind.value)
    if logger.metadataHeaders:
        yield from ("--metadata-headers", ",".join(logger.metadataHeaders))
    yield from ("--logger-tls-skip-verify", "false")


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
