"""What to start for a container: program, arguments, environment and directory. (pure)"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.base.errors import UserError
from onebox.home import Home
from onebox.node.agents import agent_of, component_port, component_probe, is_agent
from onebox.node.environment import CONFIG_ERROR, Surroundings, build_environment, expand, thread_limits
from onebox.node.images import (
    PROXY_MODULE,
    ImageCommands,
    Role,
    embeds_proxy,
    mapped_command,
    role_of,
    runtime_of,
)
from onebox.node.mounts import PathRewriter, build_mount_paths
from onebox.node.ports import (
    DATA_PORT,
    DEFAULT_USER_PORT,
    H2C_PORT,
    STATS_PORT,
    grpc_port,
    http_port,
    user_port,
)
from onebox.node.predictors import (
    GATEWAY_VARIABLE,
    asked_over_grpc,
    awaited_port,
    collocated_port,
    map_port_arguments,
    proxy_variables,
)
from onebox.node.spec import QUEUE_PROXY, Container, Pod
from onebox.processes import HOME_VARIABLE

POD_VARIABLE = "LADLE_POD_UID"
CONTAINER_VARIABLE = "LADLE_CONTAINER"
LAUNCH_VARIABLE = "LADLE_LAUNCH"
CACHE_VARIABLE = "LADLE_STORAGE_CACHE"
"""Where storage initializers share what they download; empty in a container's environment: nowhere."""
"""In the environment of every process of a pod, so that one can be found whose start was never written down."""
_PROBE_VARIABLE = "SERVING_READINESS_PROBE"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """One process to start. `module`: it is `python -m module argv`, and may be forked from `template`."""

    launch: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    termination_log: Path
    module: str = ""
    template: str = ""
    at_once: str = ""
    """The module that may do the program's work without a process (images.Runtime.at_once)."""

    @property
    def command(self) -> tuple[str, ...]:
        """The whole command line for a process that is not forked from a template."""
        return (sys.executable, "-m", self.module, *self.argv) if self.module else self.argv


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the files of one pod are."""

    home: Path
    pod: Path
    volumes: Mapping[str, Path]

    def working_directory(self, container: Container) -> Path:
        return self.pod / "containers" / container.name

    def termination_log(self, container: Container, restarts: int) -> Path:
        return self.working_directory(container) / f"termination-log-{restarts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of one container: what differs from the start before."""

    container: Container
    launch: str
    restarts: int
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContext:
    """All that a launch of a container of one pod is made from."""

    pod: Pod
    ports: Mapping[int, int]
    places: Places
    around: Surroundings
    commands: ImageCommands
    inherited: Mapping[str, str]
    """Variables of the node's own environment that every process gets."""


def build_launch(context: PodContext, start: Start) -> LaunchSpec:
    """The process for a container; UserError where its environment, mounts or directory cannot be."""
    container, role = start.container, role_of(context.pod, start.container, context.commands)
    fixed = _fixed_variables(context, start, role)
    own = build_environment(context.pod, container, context.around, fixed=fixed)
    paths = build_mount_paths(container, context.places.volumes, own)
    termination_log = context.places.termination_log(container, start.restarts)
    rewriter = PathRewriter({**paths, container.termination_path: str(termination_log)})
    argv, module, template = _program(context, container, role)
    variables = {**context.inherited, **_defaults(context, container), **own}
    if _PROBE_VARIABLE in variables:
        variables[_PROBE_VARIABLE] = rewrite_probe_port(variables[_PROBE_VARIABLE], context.ports)
    return LaunchSpec(
        launch=start.launch,
        argv=rewriter.texts(expand(word, own) for word in argv),
        env={**rewriter.values(variables), **fixed, "LADLE_TERMINATION_LOG": str(termination_log)},
        cwd=_directory(context, container, rewriter),
        log=start.log,
        termination_log=termination_log,
        module=module,
        template=template,
        at_once=_at_once(container, role),
    )


def _at_once(container: Container, role: Role) -> str:
    runtime = runtime_of(container) if role is Role.RUNTIME else None
    return runtime.at_once if runtime is not None else ""


def _program(context: PodContext, container: Container, role: Role) -> tuple[tuple[str, ...], str, str]:
    """Arguments, module and template."""
    match role:
        case Role.RUNTIME:
            runtime = runtime_of(container)
            assert runtime is not None
            inside = _agent_arguments(context.pod) if embeds_proxy(context.pod, container) else ()
            return (*map_port_arguments(container.args, context.ports), *inside), runtime.module, runtime.template
        case Role.PROXY:
            return (*container.args, *_agent_arguments(context.pod)), PROXY_MODULE, ""
        case _:
            command = container.command or mapped_command(container.image, context.commands)
            return map_port_arguments((*command, *container.args), context.ports), "", ""


def _agent_arguments(pod: Pod) -> tuple[str, ...]:
    """Our servers and the queue-proxy understand the flags of KServe's agent, and do its work."""
    agent = agent_of(pod)
    return agent.args if agent is not None else ()


def _fixed_variables(context: PodContext, start: Start, role: Role) -> dict[str, str]:
    """What the node decides: identity and ports."""
    pod, container = context.pod, start.container
    fixed = {
        HOME_VARIABLE: str(context.places.home),
        POD_VARIABLE: pod.uid,
        CONTAINER_VARIABLE: container.name,
        LAUNCH_VARIABLE: start.launch,
        "LADLE_HOST": "127.0.0.1",
    }
    if (awaited := awaited_port(container)) is not None:  # Else it would take requests before its predictor can.
        fixed["LADLE_AWAITED_PORT"] = str(context.ports.get(awaited, awaited))
    if role is Role.PROXY or embeds_proxy(pod, container):
        fixed |= _proxy_ports(context)
    elif role is Role.RUNTIME and container in pod.containers:
        fixed |= _runtime_ports(context, container)
    elif container in pod.containers:
        # All pods share this machine: a server of ours that a command starts must not take KServe's default port.
        grpc = grpc_port(container)
        fixed["LADLE_GRPC_PORT"] = str(context.ports.get(grpc, 0) if grpc else 0)
    if _serves(pod, container) and role is not Role.PROXY:
        port = _port_behind(pod, container)
        fixed["PORT"] = str(context.ports.get(port, port))
    return fixed


def _serves(pod: Pod, container: Container) -> bool:
    """Whether the container is told a port: it names one, or none does and it is the first."""
    if container not in pod.containers:
        return False
    if is_agent(container):
        return False
    named = any(other.ports for other in pod.containers if other.name != QUEUE_PROXY and not is_agent(other))
    return bool(container.ports) if named else container is pod.containers[0]


def _proxy_ports(context: PodContext) -> dict[str, str]:
    served = next(
        (container for container in context.pod.containers if _is_user_container(context.pod, container)), None
    )
    behind = _port_behind(context.pod, served) if served else DEFAULT_USER_PORT
    variables = {
        "LADLE_HTTP_PORT": str(context.ports[DATA_PORT]),
        "LADLE_ADMIN_PORT": str(context.ports[STATS_PORT]),
        "USER_PORT": str(context.ports.get(behind, behind)),
    }
    if H2C_PORT in context.ports:
        variables |= {"LADLE_GRPC_PORT": str(context.ports[H2C_PORT]), "LADLE_GRPC_PORT_SHARED": "true"}
    agent = agent_of(context.pod)
    if agent is not None:  # Knative's probe asks the agent, whose own asks the container.
        variables[_PROBE_VARIABLE] = component_probe(agent)
    return variables


def _port_behind(pod: Pod, container: Container) -> int:
    """The port that the container serves on: behind KServe's agent it names none itself."""
    agent = agent_of(pod)
    return user_port(container) if agent is None or container.ports else component_port(agent)


def _is_user_container(pod: Pod, container: Container) -> bool:
    return container.name != QUEUE_PROXY and _serves(pod, container)


def _runtime_ports(context: PodContext, container: Container) -> dict[str, str]:
    beside = None if container.ports else collocated_port(context.pod)
    if beside is not None and asked_over_grpc(context.pod, container):
        # REST has to be somewhere, and every port with a number may be another pod's.
        return {"LADLE_HTTP_PORT": "0", "LADLE_GRPC_PORT": str(context.ports[beside])}
    port, grpc = beside or http_port(container), grpc_port(container)
    variables = {"LADLE_HTTP_PORT": str(context.ports[port])} if port in context.ports else {}
    if grpc is not None:
        variables["LADLE_GRPC_PORT"] = str(context.ports[grpc])
    return variables


def _defaults(context: PodContext, container: Container) -> dict[str, str]:
    """What a container's own variables override."""
    defaults = {
        **proxy_variables(container.args + container.command, context.inherited.get(GATEWAY_VARIABLE, "")),
        "POD_NAME": context.pod.name,
        "POD_NAMESPACE": context.pod.namespace,
        "PYTHONUNBUFFERED": "1",  # A log that is read while the process runs must not lag behind.
        **thread_limits(container),
    }
    runtime = runtime_of(container)
    if runtime is not None and not runtime.serves and CACHE_VARIABLE not in context.inherited:
        defaults[CACHE_VARIABLE] = str(Home(context.places.home).storage_cache)
    if embeds_proxy(context.pod, container):
        proxy = context.pod.container(QUEUE_PROXY)
        defaults |= build_environment(context.pod, proxy, context.around, fixed={})
    return defaults


def rewrite_probe_port(text: str, ports: Mapping[int, int]) -> str:
    """A probe in JSON, with the port of this machine where it names a container port; anything else as it was."""
    try:
        probe = json.loads(text)
    except ValueError:
        return text
    for handler in probe.values() if isinstance(probe, dict) else ():
        if isinstance(handler, dict) and handler.get("port") in ports:
            handler["port"] = ports[handler["port"]]
    return json.dumps(probe)


def _directory(context: PodContext, container: Container, rewriter: PathRewriter) -> Path:
    if not container.working_dir:
        return context.places.working_directory(container)
    directory = Path(rewriter.text(container.working_dir))
    if not directory.is_dir():
        raise UserError(
            CONFIG_ERROR, f"workingDir = {container.working_dir}, there is no such directory on this machine"
        )
    return directory


def build_bare_launch(pod_folder: Path, start: Start, inherited: Mapping[str, str]) -> LaunchSpec:
    """What is known of a run without asking the API server: enough to watch it, not to start it again."""
    places = Places(home=pod_folder, pod=pod_folder, volumes={})
    return LaunchSpec(
        launch=start.launch,
        argv=(),
        env=inherited,
        cwd=places.working_directory(start.container),
        log=start.log,
        termination_log=places.termination_log(start.container, start.restarts),
    )
