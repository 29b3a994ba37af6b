"""readiness: is ready READY_DELAY seconds after its start, and listens LISTEN_DELAY seconds after it.

With TOKENS, a directory, it is ready once it has taken a file out of it: whoever puts files there decides how many servers
are ready. After POST /start-failing its /healthz is a 500, and everything else goes on. `probe` as argument asks /healthz of
the server beside it, for exec probes.
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from pathlib import Path

from tests.e2e.servers.exchange import Exchange, pause, serve
from tests.e2e.servers.text import HELLO

STARTED_S = time.monotonic()
failing: list[str] = []
taken: list[Path] = []


def is_ready() -> bool:
    if directory := os.environ.get("TOKENS"):
        return bool(taken) or _take(Path(directory))
    return time.monotonic() - STARTED_S >= float(os.environ.get("READY_DELAY", "0"))


def _take(directory: Path) -> bool:
    for token in directory.glob("token-*"):
        try:
            token.unlink()
        except FileNotFoundError:
            continue  # Another server was faster.
        taken.append(token)
        return True
    return False


class Readiness(Exchange):
    def respond(self) -> None:
        if self.route == "/start-failing":
            failing.append(self.command)
            self.answer(200, "failing from now on")
        elif self.route == "/healthz":
            self.answer(200 if is_ready() and not failing else 500, "")
        else:
            self.answer(200, HELLO) if is_ready() else self.answer(500, "not ready yet")


def probe() -> int:
    """The exit code of an exec probe."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["PORT"]), timeout=5)
    try:
        connection.request("GET", "/healthz")
        return int(connection.getresponse().status != http.client.OK)
    except OSError:
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["probe"]:
        sys.exit(probe())
    pause(float(os.environ.get("LISTEN_DELAY", "0")))
    serve(Readiness)
