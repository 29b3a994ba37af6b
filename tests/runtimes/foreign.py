"""A server that is not ours, and the sidecar in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from ladle.clock import SystemClock
from ladle.server.batch_queue import BatchSettings
from ladle.server.payload_events import PayloadLogSettings
from ladle.server.queue_settings import QueueSettings
from runtimes.queueproxy.readiness import ReadinessProbe
from runtimes.queueproxy.sidecar import Sidecar, SidecarSettings

JSON = "application/json"


class Foreign(BaseHTTPRequestHandler):
    """The server that the recordings were made with, by what is seen of it."""

    protocol_version = "HTTP/1.1"
    saw: ClassVar[list[dict[str, Any]]] = []
    release: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length) if length else self._chunks()
        headers = {name.lower(): value for name, value in self.headers.items()}
        Foreign.saw.append(
            {"method": self.command, "path": self.path, "headers": headers, "body": body.decode("latin-1")}
        )
        if self.path == "/hello":
            self._answer(200, b"hello", content_type="text/plain", x_from="service")
        elif self.path.startswith("/slow/"):
            Foreign.release.wait(float(self.path.rpartition("/")[2]))
            self._answer(200, b'{"predictions":["late"]}')
        elif self.path == "/stream":
            self._stream()
        elif self.path == "/echo":
            self._answer(200, body, content_type="application/octet-stream")
        elif self.path.endswith(":predict"):
            self._predict(json.loads(body)["instances"])
        elif self.path.startswith("/status/"):
            status = int(self.path.rpartition("/")[2])
            self._answer(status, json.dumps({"error": "from the service", "status": status}).encode())
        elif self.path == "/broken":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            self.close_connection = True
        elif self.path == "/nonsense":
            self.wfile.write(b"what?\r\n\r\n")
            self.close_connection = True
        elif self.path == "/silent":
            self.close_connection = True
        else:
            self._answer(404, b'{"error":"no such path"}')

    do_POST = do_PUT = do_HEAD = do_GET

    def _predict(self, rows: list[Any]) -> None:
        """Each row to its place in the request; a row "bad" is an error, a row "short" an answer without its last row."""
        if ["bad"] in rows:
            self._answer(400, b'{"error":"a bad row"}')
        else:
            places = list(range(len(rows)))
            self._answer(200, json.dumps({"predictions": places[:-1] if ["short"] in rows else places}).encode())

    def _chunks(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return b""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, body: bytes, content_type: str = JSON, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(3):
            self.wfile.write(f"data: {number}\n\n".encode())
            self.wfile.flush()
            Foreign.release.wait(0.2)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def foreign_server() -> Iterator[ThreadingHTTPServer]:
    """The server on a port; what it saw before is forgotten."""
    Foreign.saw, Foreign.release = [], threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            Foreign.release.set()
            server.shutdown()
            thread.join()


@contextlib.asynccontextmanager
async def sidecar(
    user_port: int,
    probe: ReadinessProbe | None = None,
    batching: BatchSettings | None = None,
    payload_log: PayloadLogSettings | None = None,
    h2c: bool = False,
    **queue: Any,
) -> AsyncIterator[Sidecar]:
    """The sidecar on ports of its own, in the test's loop."""
    settings = SidecarSettings(
        host="127.0.0.1",
        http_port=0,
        admin_port=0,
        user_port=user_port,
        probe=probe or ReadinessProbe(),
        batching=batching,
        payload_log=payload_log,
        h2c=h2c,
        queue=QueueSettings(pod="iris-00001-pod", **queue),
    )
    async with asyncio.TaskGroup() as tasks:
        proxy = Sidecar(settings, tasks, clock=SystemClock())
        try:
            await proxy.start()
            yield proxy
        finally:
            proxy.close()


async def idle(proxy: Sidecar) -> bool:
    """Whether nobody is inside."""
    return not proxy.queue_proxy.stats.concurrency and not proxy.queue_proxy.breaker.running


async def busy(proxy: Sidecar) -> bool:
    """Whether somebody is inside."""
    return bool(proxy.queue_proxy.stats.concurrency)
