"""runtime: tells as JSON what a container gets: its request, environment, arguments, directory and standard input."""

from __future__ import annotations

import json
import os
import sys

from tests.e2e.servers.exchange import Exchange, serve


class Runtime(Exchange):
    def respond(self) -> None:
        seen = {
            "request": {"path": self.path, "host": self.headers["Host"], "headers": dict(self.headers.items())},
            "env": dict(os.environ),
            "args": sys.argv[1:],
            "directory": os.getcwd(),
            "stdin": sys.stdin.read(),
        }
        self.answer(200, json.dumps(seen), "application/json")


if __name__ == "__main__":
    serve(Runtime)
