"""KServe's agent beside a container: on this machine no process of its own. (pure)

It batches what goes to the container behind it. A runtime of ours does that itself, and so does the queue-proxy in front of
any other container: each is started with the agent's own arguments, and one hop less lies in the path of a request.
"""

from __future__ import annotations

from onebox.node.spec import Container, Pod

AGENT_IMAGE = "agent"
"""The last part of the image's name: kserve/agent."""
_COMPONENT_PORT_FLAG = "--component-port"
_READINESS_ENV = "SERVING_READINESS_PROBE"
_DEFAULT_PORT = 8080


def is_agent(container: Container) -> bool:
    """Whether this is KServe's agent as the InferenceService controller writes it."""
    name = container.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return name == AGENT_IMAGE and not container.command and _COMPONENT_PORT_FLAG in container.args


def agent_of(pod: Pod) -> Container | None:
    """The pod's agent; None where it has none."""
    return next(filter(is_agent, pod.containers), None)


def component_port(agent: Container) -> int:
    """The port of the container behind the agent, as the pod numbers ports."""
    value = dict(zip(agent.args, agent.args[1:], strict=False)).get(_COMPONENT_PORT_FLAG, "")
    return int(value) if value.isdecimal() else _DEFAULT_PORT


def component_probe(agent: Container) -> str:
    """The readiness probe that the agent runs for that container, as JSON; "" where it has none."""
    return next((variable.value for variable in agent.env if variable.name == _READINESS_ENV), "")
