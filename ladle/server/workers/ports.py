"""Ports that several processes listen on: taken by the parent, so that nobody else's server gets half of the requests."""

from __future__ import annotations

import socket
from typing import Any


def reserve(host: str, port: int) -> socket.socket:
    """A socket that is bound, not listening, with SO_REUSEPORT; OSError where another server has the port.

    Port 0 chooses one. While the socket is open, workers can listen on the same address with SO_REUSEPORT.
    """
    # Without SO_REUSEPORT first: with it, a second server of the same user would share the port and nobody notice.
    require_free(host, port)
    family, kind, protocol, _, address = _resolved(host, port)
    shared = socket.socket(family, kind, protocol)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        shared.bind(address)
    except OSError:
        shared.close()
        raise
    return shared


def require_free(host: str, port: int) -> None:
    """OSError where another server has the port."""
    family, kind, protocol, _, address = _resolved(host, port)
    with socket.socket(family, kind, protocol) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            alone.bind(address)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: port {port}") from error


def _resolved(host: str, port: int) -> tuple[int, int, int, str, Any]:
    """Family, kind, protocol, name and address, as the socket module takes them."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
