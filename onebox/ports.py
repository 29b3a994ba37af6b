"""Which ports a onebox gets, and who has one that it cannot get."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Mapping

from controller.base.errors import UserError
from onebox.home import OneboxSettings

PORT_FLAGS: Mapping[str, str] = {"api_port": "--api-port", "gateway_port": "--gateway-port"}
"""Ports that people use, hence choose; the others are onebox's own affair and move out of the way."""
_INTERNAL_PORTS = ("local_gateway_port", "activator_port", "metrics_port")
_LOOPBACK = "127.0.0.1"
_INTERNAL_RANGE = range(30_000, 32_768)
"""Above the ports of pods, below Linux's ephemeral ports, where an outgoing connection could take one meanwhile."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers bind: what a closed connection left behind is in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def check_ports(settings: OneboxSettings) -> OneboxSettings:
    """The settings with every internal port free; UserError where a port that people chose is taken: by whom, what to do."""
    for name, flag in PORT_FLAGS.items():
        port = getattr(settings, name)
        if not is_free(port):
            raise UserError("PortTaken", f"port {port} is taken{owner_of(port)}; choose another with {flag} PORT")
    taken = {getattr(settings, name) for name in PORT_FLAGS}
    for name in _INTERNAL_PORTS:
        port = getattr(settings, name)
        if port in taken or not is_free(port):
            port = _free_port(taken)
            settings = settings.with_ports({name: port})
        taken.add(port)
    return settings


def owner_of(port: int) -> str:
    """` by NAME (pid N)` for the process that listens on `port`, as far as this user may see it; else what is known."""
    import psutil  # Not at the top: the node asks `is_free` only.

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return " by a process of another user"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                return " by a process of another user"
            return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "" if port >= 1024 else " or reserved for root (ports below 1024)"


def scatter_internal_ports(settings: OneboxSettings) -> OneboxSettings:
    """The settings with internal ports drawn by lot: two homes that start at the same moment would both find a fixed
    number free, and one of them would fail to listen on it."""
    taken = {getattr(settings, name) for name in PORT_FLAGS}
    ports: dict[str, int] = {}
    for name in _INTERNAL_PORTS:
        ports[name] = _free_port(taken)
        taken.add(ports[name])
    return settings.with_ports(ports)


def _free_port(taken: set[int]) -> int:
    candidates = [port for port in _INTERNAL_RANGE if port not in taken]
    random.SystemRandom().shuffle(candidates)
    found = next(filter(is_free, candidates), None)
    if found is None:
        raise UserError(
            "NoPort", f"all ports from {_INTERNAL_RANGE[0]} to {_INTERNAL_RANGE[-1]} are taken; end what listens there"
        )
    return found
