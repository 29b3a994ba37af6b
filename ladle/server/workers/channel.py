"""The parent's end of the line to one worker: JSON lines on a socket that never blocks."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from ladle.server.workers.fleet import LINE_BYTES_MAX

_READ_BYTES = 256 * 1024


class Channel:
    """Messages both ways; `broken` once the worker is gone or does not keep to lines."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.broken = False
        self._incoming = b""
        self._outgoing = b""

    def receive(self) -> Iterator[Mapping[str, Any]]:
        """The messages that have arrived whole."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        self.broken = not data or len(self._incoming) > LINE_BYTES_MAX
        for line in lines:
            yield json.loads(line)

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends with the next `flush`. A worker that reads nothing any more loses its line rather than fill the memory."""
        self._outgoing += json.dumps(message).encode() + b"\n"
        if len(self._outgoing) > LINE_BYTES_MAX:
            self.broken = True

    def flush(self) -> bool:
        """Writes what the socket takes; whether something is left."""
        with contextlib.suppress(BlockingIOError):
            while self._outgoing and not self.broken:
                try:
                    self._outgoing = self._outgoing[self.socket.send(self._outgoing) :]
                except (BrokenPipeError, ConnectionResetError):
                    self.broken = True
        return bool(self._outgoing)

    def close(self) -> None:
        self.socket.close()
