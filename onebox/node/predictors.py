"""How a transformer's process finds its predictor. (pure)

KServe tells a transformer `--predictor_host NAME.NAMESPACE`, which Kubernetes' DNS resolves. Here nothing does, and what
would is the gateway's cluster-local listener, which goes by the Host header. See docs/decisions/0015.
"""

from __future__ import annotations

from collections.abc import Sequence

GATEWAY_VARIABLE = "LADLE_GATEWAY"
"""HOST:PORT of the cluster-local listener, which Ladle's own clients connect to for cluster-local names."""
_PREDICTOR_FLAG = "predictor_host"
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
    proxy, direct = f"http://{gateway}", ",".join(_LOCAL)
    return {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": direct, "no_proxy": direct}


def predictor_host(arguments: Sequence[str]) -> str:
    """The value of --predictor_host, spelt with dashes or underscores; "" where there is none."""
    for index, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name[2:].replace("-", "_") == _PREDICTOR_FLAG:
            return value if equals else next(iter(arguments[index + 1 : index + 2]), "")
    return ""
