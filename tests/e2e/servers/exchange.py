"""What the programs share: HTTP/1.1 on the standard library, which starts in milliseconds, and pauses.

A SIGTERM ends a program at once, with the requests that it works on: whatever drains a pod must have done so before.
"""

from __future__ import annotations

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Exchange(BaseHTTPRequestHandler):
    """One request; a program's subclass says in `respond` how it is answered."""

    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        raise NotImplementedError

    @property
    def route(self) -> str:
        return urlsplit(self.path).path

    def number(self, name: str) -> float:
        """A parameter of the query; 0 where it is not given."""
        return float(parse_qs(urlsplit(self.path).query).get(name, ["0"])[0])

    def answer(self, status: int, text: str, content_type: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # The standard library's name.
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.respond()

    do_POST = do_GET  # The same.

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # The standard library's name.
        """Nothing: a line for each request would be most of a pod's log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # Connections that come at once; a crowd must not be refused.

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is no error of the program's."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve(exchange: type[Exchange]) -> None:
    """Answers where PORT says, until the process is ended."""
    with Server(("127.0.0.1", int(os.environ["PORT"])), exchange) as server:
        server.serve_forever()


def pause(seconds: float) -> None:
    """The program's own slowness."""
    if seconds > 0:
        threading.Event().wait(seconds)
