"""Ports that several processes listen on: taken by the parent, so that nobody else's server gets half of the requests."""

from __future__ import annotations

import socket


def reserve(host: str, port: int) -> socket.socket:
    """A socket that is bound, not listening, with SO_REUSEPORT; OSError where another server has the port.

    Port 0 chooses one. While the socket is open, workers can listen on the same address with SO_REUSEPORT.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # Bound without SO_REUSEPORT first: with it, a second server of the same user would share the port and nobody notice.
    with socket.socket(family, kind, protocol) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(address)
    shared = socket.socket(family, kind, protocol)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        shared.bind(address)
    except OSError:
        shared.close()
        raise
    return shared
