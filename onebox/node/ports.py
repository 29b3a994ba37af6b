"""Loopback ports for the ports of pods.

All pods share 127.0.0.1, so each port of a container gets a port of its own; who wants to reach the pod learns it from
the annotation `onebox.ladle.dev/ports`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping

from controller.base.errors import TransientError
from onebox.node.agents import agent_of, component_port
from onebox.node.images import embedding_container
from onebox.node.predictors import collocated_port
from onebox.node.probe_spec import GrpcCheck, Handler, HttpGet, TcpSocket
from onebox.node.spec import Container, Pod
from onebox.ports import is_free

PORTS_ANNOTATION = "onebox.ladle.dev/ports"
FIRST_PORT = 20000
LAST_PORT = 29999
"""Below Linux's ephemeral range (32768 and up), where an outgoing connection could take a port before its server does."""

DATA_PORT = 8012
H2C_PORT = 8013
ADMIN_PORT = 8022
STATS_PORT = 9090
"""Knative's ports of the queue-proxy. On onebox the admin page and the statistics are on one port."""
DEFAULT_USER_PORT = 8080
"""Knative's default for a container that names no port."""


class PortPool:
    """Hands out ports of the range in a circle, so that one which was just given back is not used again at once.

    A server may load for minutes before it listens, and another onebox on this machine hands out the same range: each port is
    claimed, from when it is handed out until it is given back or this process ends.
    """

    def __init__(self, *, first: int = FIRST_PORT, last: int = LAST_PORT, start: int | None = None) -> None:
        self._first, self._count = first, last - first + 1
        self._next = (start or 0) % self._count
        self._taken: dict[int, int | None] = {}
        """By port, the descriptor of its claim; None where that could not be made again."""

    def reserve(self, ports: Iterable[int]) -> None:
        """Marks ports as used that a pod had before this process started."""
        self._taken |= {port: _claim(port) for port in ports if port not in self._taken}

    def take(self) -> int:
        """A port that no pod has and nobody listens on; TransientError where all are taken."""
        for _ in range(self._count):
            port = self._first + self._next
            self._next = (self._next + 1) % self._count
            if port not in self._taken and is_free(port) and (claim := _claim(port)) is not None:
                self._taken[port] = claim
                return port
        raise TransientError(f"all {self._count} ports from {self._first} are taken")

    def release(self, ports: Iterable[int]) -> None:
        for port in ports:
            if (claim := self._taken.pop(port, None)) is not None:
                os.close(claim)


def _claim(port: int) -> int | None:
    """The descriptor that holds a port against other oneboxes; None where one of them has it.

    A name in Linux's abstract namespace: it goes with the last descriptor, also when the process is killed, and is as wide
    as loopback is (one network namespace).
    """
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0ladle-port-{port}")
        except OSError:
            return None
        return claim.detach()


def wanted_ports(pod: Pod) -> tuple[int, ...]:
    """The container ports of a pod that need a port on this machine, each once."""
    ports = dict.fromkeys(port.number for container in pod.all_containers for port in container.ports)
    if (agent := agent_of(pod)) is not None:
        ports[component_port(agent)] = None  # Of a container that names none, since Knative allows one port only.
    if (beside := collocated_port(pod)) is not None:
        ports[beside] = None
    if pod.has_queue_proxy:
        ports |= dict.fromkeys((DATA_PORT, STATS_PORT))
    else:
        ports |= dict.fromkeys(http_port(container) for container in pod.containers[:1])
    return tuple(ports)


def allocate(pod: Pod, pool: PortPool) -> dict[int, int]:
    """The pod's ports on this machine. With hostNetwork they are the container's own."""
    wanted = wanted_ports(pod)
    if pod.host_network:
        return {port: port for port in wanted}
    aliases = _aliases(pod)
    mapping = {port: pool.take() for port in wanted if port not in aliases}
    return mapping | {port: mapping[target] for port, target in aliases.items()}


def _aliases(pod: Pod) -> dict[int, int]:
    """The server port of a runtime with the queue-proxy inside is the queue-proxy's: nothing listens behind it. So is the
    port of KServe's agent, which is inside of one of the two."""
    container, agent = embedding_container(pod), agent_of(pod)
    inside = dict.fromkeys((port.number for port in agent.ports), DATA_PORT) if agent and pod.has_queue_proxy else {}
    if container is None:
        # The queue-proxy as a process tells both versions of HTTP apart on one port.
        h2c = {H2C_PORT: DATA_PORT} if pod.has_queue_proxy and H2C_PORT in wanted_ports(pod) else {}
        return inside | h2c
    if agent is not None:
        inside[component_port(agent)] = DATA_PORT
    wanted = wanted_ports(pod)
    own = {
        port.number: H2C_PORT if _speaks_h2c(port.name) and H2C_PORT in wanted else DATA_PORT
        for port in container.ports
    }
    return {port: target for port, target in (inside | own).items() if port != target}


def _speaks_h2c(name: str) -> bool:
    return name == "h2c" or name.startswith(("h2c-", "grpc"))


def user_port(container: Container) -> int:
    """The port that the container is meant to serve on: the first that it names for HTTP, else the first."""
    return _http_port(container) or (container.ports[0].number if container.ports else DEFAULT_USER_PORT)


def http_port(container: Container) -> int:
    """The port that a runtime serves HTTP on, also where its container names only one for gRPC."""
    return _http_port(container) or DEFAULT_USER_PORT


def _http_port(container: Container) -> int | None:
    return next((port.number for port in container.ports if not _speaks_h2c(port.name)), None)


def grpc_port(container: Container) -> int | None:
    """The port that the container is meant to serve gRPC on, by its name; None where it has none."""
    return next((port.number for port in container.ports if _speaks_h2c(port.name)), None)


def actual_port(container: Container, wanted: int | str, ports: Mapping[int, int]) -> int:
    """The port on this machine for a port number or name of a container; ValueError for an unknown name."""
    if isinstance(wanted, str) and not wanted.isdecimal():
        named = next((port.number for port in container.ports if port.name == wanted), None)
        if named is None:
            raise ValueError(f"container {container.name} has no port named {wanted}")
        wanted = named
    number = int(wanted)
    if number == ADMIN_PORT and number not in ports:
        number = STATS_PORT
    return ports.get(number, number)


def port_of(handler: Handler) -> int | str | None:
    """The port that a probe or hook goes to; None where it goes to none."""
    return handler.port if isinstance(handler, HttpGet | TcpSocket | GrpcCheck) else None


def ports_annotation(ports: Mapping[int, int]) -> str:
    return json.dumps({str(port): actual for port, actual in sorted(ports.items())})
