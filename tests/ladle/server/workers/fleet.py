"""A server of several processes, started as users start it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.ports import free_ports
from tests.waiting import wait_for

DEADLINE_S = 60.0
SERVER = """
import os, sys, threading
from pathlib import Path
from ladle import Model, serve
from ladle.server.options import ServerOptions

pause = threading.Event()

class Obedient(Model):
    thread_safe = True

    def load(self):
        Path("loads").open("a").write("x")
        if Path("broken").exists():
            raise ValueError(Path("broken").read_text())

    def predict(self, request):
        match request.instances[0]:
            case "die":
                os._exit(9)
            case "wait":
                Path("inside").open("a").write("x")
                while not Path("answer").exists():
                    pause.wait(0.01)
        return [os.getpid()]

sys.exit(serve(Obedient("m"), Obedient("n"), options=ServerOptions.parse(sys.argv[1:], os.environ)))
"""


class FleetProcess:
    """The parent; files in its directory tell the models what to do."""

    def __init__(self, directory: Path, workers: int, *, script: str = SERVER, **env: str) -> None:
        self.directory = directory
        self.port, self.admin_port, self.grpc_port = free_ports(3)
        ports = {"HTTP": self.port, "ADMIN": self.admin_port, "GRPC": self.grpc_port}
        (directory / "server.py").write_text(script)
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "server.py", f"--workers={workers}", "--max_threads=8"],
                cwd=directory,
                env={
                    **os.environ,
                    "LADLE_HOST": "127.0.0.1",
                    **{f"LADLE_{name}_PORT": str(port) for name, port in ports.items()},
                    "LADLE_TERMINATION_LOG": str(directory / "last-words"),
                    "LADLE_DRAIN_QUIET_S": "0.2",
                    "POD_NAME": "pod-1",
                    **env,
                },
                stderr=log,
            )

    def ready(self) -> None:
        wait_for("the fleet is ready", lambda: self.probe() == 200, timeout_s=DEADLINE_S)

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

    def status(self, path: str, body: bytes | None = None, **headers: str) -> int:
        try:
            return self.fetch(path, body, **headers)[0]
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

    def ask(self, word: object = 1) -> int:
        """The pid that answered."""
        status, body = self.fetch("/v1/models/m:predict", json.dumps({"instances": [word]}).encode())
        assert status == 200, body
        pid: int = json.loads(body)["predictions"][0]
        return pid

    def pids(self, count: int) -> set[int]:
        """Who answers, as soon as `count` workers did."""
        seen: set[int] = set()

        def ask() -> bool:
            with suppress(OSError):  # Of a connection that a dying worker was given.
                seen.add(self.ask())
            return len(seen) >= count

        wait_for(f"{count} workers answer", ask, timeout_s=DEADLINE_S)
        return seen

    def stat(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fetch("/metrics", port=self.admin_port)[1])
        return found

    def metric(self, name: str) -> float:
        """The sum of the samples of that name."""
        lines = self.fetch("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def marks(self, name: str) -> int:
        path = self.directory / name
        return len(path.read_text()) if path.exists() else 0

    def say(self, name: str, text: str = "") -> None:
        (self.directory / name).write_text(text)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.say("answer")
            self.process.kill()  # Its workers see that it is gone, and end.
            self.process.wait(DEADLINE_S)
