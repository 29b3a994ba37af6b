"""A model server as a process, started as users start it, and what a client sees of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.ports import free_ports

DEADLINE_S = 60.0


class ServerProcess:
    """A server in a directory of its own, where files tell its models what to do."""

    def __init__(self, directory: Path, script: str, *arguments: str, grpc: bool = False, **env: str) -> None:
        """`script`: the Python program that serves; `env`: variables beside the ports and the pod's."""
        self.directory = directory
        self.port, self.admin_port, self.grpc_port = free_ports(3)
        self.log = directory / "log"
        (directory / "server.py").write_text(script)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "server.py", *arguments],
                cwd=directory,
                env={
                    **os.environ,
                    "LADLE_HOST": "127.0.0.1",
                    "LADLE_HTTP_PORT": str(self.port),
                    "LADLE_ADMIN_PORT": str(self.admin_port),
                    "LADLE_TERMINATION_LOG": str(directory / "last-words"),
                    "LADLE_DRAIN_QUIET_S": "0.3",
                    "POD_NAME": "pod-1",
                    **({"LADLE_GRPC_PORT": str(self.grpc_port)} if grpc else {}),
                    **env,
                },
                stderr=log,
            )

    def say(self, name: str, text: str = "") -> None:
        """Puts a file there, all of it at once."""
        part = self.directory / f"{name}.part"
        part.write_text(text)
        part.rename(self.directory / name)

    def listens(self) -> bool:
        """Asks nothing: a request would tell a server that drains that it is still wanted."""
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        except ConnectionResetError:  # It closed between the two halves of the greeting.
            return True
        return True

    def probe(self) -> int:
        return self.status("/", User_Agent="kube-probe/1.32", K_Network_Probe="queue")

    def status(self, path: str, body: bytes | None = None, port: int | None = None, **headers: str) -> int:
        """0 where nobody answers."""
        try:
            return self.fetch(path, body, port, **headers)[0]
        except OSError:
            return 0

    def fetch(self, path: str, body: bytes | None = None, port: int | None = None, **headers: str) -> tuple[int, str]:
        """Over a connection of its own, so that the kernel chooses a worker each time."""
        url = f"http://127.0.0.1:{port or self.port}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=DEADLINE_S) as answer:
                return answer.status, answer.read().decode("latin-1")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()  # Workers see that it is gone, and end.
            self.process.wait(DEADLINE_S)
