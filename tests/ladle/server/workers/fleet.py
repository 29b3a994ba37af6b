"""A server of several processes, started as users start it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.ladle.server.process import DEADLINE_S, ServerProcess
from tests.waiting import wait_for

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


class FleetProcess(ServerProcess):
    """The parent; files in its directory tell the models what to do."""

    def __init__(self, directory: Path, workers: int, *, script: str = SERVER, **env: str) -> None:
        super().__init__(directory, script, f"--workers={workers}", "--max_threads=8", grpc=True, **env)

    def ready(self) -> None:
        wait_for("the fleet is ready", lambda: self.probe() == 200, timeout_s=DEADLINE_S)

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

    def close(self) -> None:
        self.say("answer")
        super().close()
