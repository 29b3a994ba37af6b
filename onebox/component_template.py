"""The supervisor's side of the components' template: a process that has their libraries imported, and forks them.

Four interpreters with the same libraries are 25 MB each; forked from one they share what they never write to, and start in
milliseconds. The protocol is ladle.server.template's. Only the standard library: the supervisor needs no more.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from onebox.components import Component

log = logging.getLogger("supervisor")

_ANSWER_TIMEOUT_S = 10.0
"""A fork takes milliseconds; a template that does not answer for this long is taken for broken. A guess."""
_PACKET_BYTES_MAX = 65536
_EXIT_CODES_MAX = 64
"""Exit codes that nobody asked for are forgotten beyond this; there are six components."""


class TemplateLostError(Exception):
    """The template closed the connection, or did not answer in time: nobody knows whether it forked."""


class ForkRefusedError(Exception):
    """The template answered that it cannot fork."""


class ComponentTemplate:
    """A connection to the template, made anew when it is lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self._exit_codes: dict[int, int] = {}
        self.ready = False
        """Whether it has imported everything, and so answers at once."""

    def fileno(self) -> int | None:
        """What to wait on for news; None without a connection."""
        return self._connection.fileno() if self._connection else None

    def look(self) -> None:
        """Connects where there is no connection, and takes what was sent. Never waits."""
        if self._connection is None:
            self._connect()
        while self._connection is not None:
            try:
                packet = self._connection.recv(_PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            self._take(packet)

    def exit_code(self, pid: int) -> int | None:
        """How a process that it forked ended, negative for a signal; None where it does not know, or not yet."""
        return self._exit_codes.pop(pid, None)

    def fork(self, component: Component, *, env: Mapping[str, str], cwd: Path, output: int) -> int:
        """The pid of a new process of this component, which writes to the descriptor `output`.

        TemplateLostError where nobody knows whether there is one, ForkRefusedError where there is none.
        """
        request = {
            "id": component.name,
            "module": component.module,
            "argv": component.arguments,
            "env": dict(env),
            "cwd": str(cwd),
        }
        try:
            answer = self._ask(json.dumps(request).encode(), component.name, [output, output])
        except OSError as error:
            self.close()
            raise TemplateLostError(str(error) or type(error).__name__) from None
        if "error" in answer:
            raise ForkRefusedError(answer["error"])
        pid = int(str(answer["pid"]))
        self._exit_codes.pop(pid, None)  # Of an earlier process with this pid.
        return pid

    def _ask(self, request: bytes, request_id: str, descriptors: list[int]) -> dict[str, object]:
        if self._connection is not None:
            self._connection.settimeout(_ANSWER_TIMEOUT_S)
            socket.send_fds(self._connection, [request], descriptors)
        while self._connection is not None:
            answer = self._take(self._connection.recv(_PACKET_BYTES_MAX))
            if answer.get("id") == request_id and self._connection is not None:
                self._connection.setblocking(False)
                return answer
        raise TemplateLostError("it closed the connection")

    def close(self) -> None:
        """Gives the connection up; the next look makes another."""
        self.ready = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                # A unix address holds 107 bytes, a home's path may be longer.
                connection.connect(f"/proc/self/fd/{directory}/{self._path.name}")
            finally:
                os.close(directory)
            connection.send(b'{"list": true}')  # Answered once everything is imported.
        except OSError:
            connection.close()
            return
        self._connection = connection

    def _take(self, packet: bytes) -> dict[str, object]:
        if not packet:
            self.close()
            return {}
        message: dict[str, object] = json.loads(packet)
        if "children" in message:
            self.ready = True
        elif "exit_code" in message:
            self._exit_codes[int(str(message["pid"]))] = int(str(message["exit_code"]))
            while len(self._exit_codes) > _EXIT_CODES_MAX:
                self._exit_codes.pop(next(iter(self._exit_codes)))
        return message
