"""A web server with ranges, versions and faults, on a free port of loopback; all it did is recorded."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """What one request gets; a fault changes it."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class FileServer:
    """Serves `files` by path, with ranges and strong ETags. `faults` see every answer before it is sent."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    faults: list[Callable[[str, str | None, Answer], None]] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    sent_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stalled: threading.Event = field(default_factory=threading.Event)
    """Set when a body was held back."""
    released: threading.Event = field(default_factory=threading.Event)

    def put(self, path: str, content: bytes, etag: str = '"1"') -> str:
        self.files[path], self.etags[path] = content, etag
        return f"{self.url}{path}"

    def answer(self, path: str, range_header: str | None, if_range: str | None) -> Answer:
        if path not in self.files:
            return Answer(404, {}, b"")
        content, etag = self.files[path], self.etags[path]
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if range_header is None or if_range not in (None, etag):
            return Answer(200, headers, content)
        first, _, last = range_header.removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) + 1 if last else len(content)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return Answer(206, headers, content[start:end])


def cut_short(share: float, times: int) -> Callable[[str, str | None, Answer], None]:
    """A fault: the first `times` answers end after a share of their body."""
    left = [times]

    def fault(_path: str, _range: str | None, answer: Answer) -> None:
        if left[0] and answer.body:
            left[0] -= 1
            answer.headers.setdefault("Content-Length", str(len(answer.body)))
            answer.body = answer.body[: int(len(answer.body) * share)]

    return fault


@contextmanager
def serving() -> Iterator[FileServer]:
    """A running FileServer."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            range_header = self.headers.get("Range")
            with state.lock:
                state.requests.append((self.path, range_header))
                answer = state.answer(self.path, range_header, self.headers.get("If-Range"))
                for fault in state.faults:
                    fault(self.path, range_header, answer)
            answer.headers.setdefault("Content-Length", str(len(answer.body)))
            try:
                self._send(answer)
            except ConnectionError:
                self.close_connection = True  # A client that was killed, or read enough.

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            hold = answer.headers.pop("X-Hold-After", None)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            cut = len(answer.body) if hold is None else int(hold)
            self.wfile.write(answer.body[:cut])
            if hold is not None:
                self.wfile.flush()
                state.stalled.set()
                state.released.wait(60)
                self.wfile.write(answer.body[cut:])
            with state.lock:
                state.sent_bytes += len(answer.body)
            self.close_connection = len(answer.body) != int(answer.headers["Content-Length"])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # Clients that have read enough hang up.
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        try:
            yield state
        finally:
            state.released.set()
            running.shutdown()
            thread.join()
