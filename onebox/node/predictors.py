"""How a transformer's process finds its predictor: over the gateway, or beside it in the pod. (pure)

KServe tells a transformer `--predictor_host NAME.NAMESPACE`, which Kubernetes' DNS resolves. Here nothing does, and what
would is the gateway's cluster-local listener, which goes by the Host header. See docs/decisions/0015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onebox.node.spec import Container, Pod

GATEWAY_VARIABLE = "LADLE_GATEWAY"
"""HOST:PORT of the cluster-local listener, which Ladle's own clients connect to for cluster-local names."""
_PREDICTOR_FLAG = "predictor_host"
_PROTOCOL_FLAG = "predictor_protocol"
_GRPC_PORT_FLAG = "grpc_port"
_PORT_FLAGS = ("http_port", _GRPC_PORT_FLAG)
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def gateway_variables(port: int) -> dict[str, str]:
    """What every process of a pod is told."""
    return {GATEWAY_VARIABLE: f"127.0.0.1:{port}"}


def proxy_variables(arguments: Sequence[str], gateway: str) -> dict[str, str]:
    """The gateway as HTTP proxy, for a program that is told of a predictor by its cluster-local name; {} for any other.

    Clients that follow these variables, as httpx, requests, curl and Go's do, send plain HTTP there with the name in it.
    """
    host = predictor_host(arguments)
    if not gateway or not host or host.rpartition(":")[0] in _LOCAL or host in _LOCAL:
        return {}
    proxy, direct = f"http://{gateway}", "localhost,127.0.0.1,::1"
    return {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": direct, "no_proxy": direct}


def predictor_host(arguments: Sequence[str]) -> str:
    """The value of --predictor_host; "" where there is none."""
    return flag_value(arguments, _PREDICTOR_FLAG)


def awaited_port(container: Container) -> int | None:
    """The port at which this container asks one beside it, as the pod numbers ports; None where it asks none."""
    host, _, port = predictor_host(_words(container)).rpartition(":")
    return int(port) if host in _LOCAL and port.isdecimal() else None


def collocated_port(pod: Pod) -> int | None:
    """Where a predictor listens for the transformer beside it in the pod: KServe's manifests tell the transformer only."""
    found = _asking(pod)
    return found[1] if found else None


def asked_over_grpc(pod: Pod, predictor: Container) -> bool:
    """Whether that is a port for gRPC: the transformer says so, or the predictor is told this port for it."""
    found = _asking(pod)
    if found is None:
        return False
    transformer, port = found
    protocol = flag_value(_words(transformer), _PROTOCOL_FLAG)
    return protocol.startswith("grpc") or flag_value(_words(predictor), _GRPC_PORT_FLAG) == str(port)


def _asking(pod: Pod) -> tuple[Container, int] | None:
    """The container that asks one beside it, and at which port."""
    asked = ((container, awaited_port(container)) for container in pod.containers)
    return next(((container, port) for container, port in asked if port is not None), None)


def _words(container: Container) -> tuple[str, ...]:
    return (*container.command, *container.args)


def map_port_arguments(arguments: Sequence[str], ports: Mapping[int, int]) -> tuple[str, ...]:
    """The arguments with this machine's ports for the pod's, in the flags by which KServe's servers are told ports."""
    mapped = list(arguments)
    for index, word in enumerate(mapped):
        name, equals, value = word.partition("=")
        flag = name.removeprefix("--").replace("-", "_") if name.startswith("--") else ""
        if flag not in (*_PORT_FLAGS, _PREDICTOR_FLAG):
            continue
        if equals:
            mapped[index] = f"{name}={_mapped(flag, value, ports)}"
        elif index + 1 < len(mapped):
            mapped[index + 1] = _mapped(flag, mapped[index + 1], ports)
    return tuple(mapped)


def _mapped(flag: str, value: str, ports: Mapping[int, int]) -> str:
    host, separator, port = value.rpartition(":")
    if not port.isdecimal() or int(port) not in ports or (flag == _PREDICTOR_FLAG and host not in _LOCAL):
        return value
    return f"{host}{separator}{ports[int(port)]}"


def flag_value(arguments: Sequence[str], flag: str) -> str:
    """The value of a flag, spelt with dashes or underscores; "" where it is not given."""
    for index, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name[2:].replace("-", "_") == flag:
            return value if equals else next(iter(arguments[index + 1 : index + 2]), "")
    return ""
