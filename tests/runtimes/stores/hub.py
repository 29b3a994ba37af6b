"""A small stand-in for the Hugging Face hub: one model, its API and its files, on loopback.

What it answers follows the hub's own API: model information with blobs, `resolve` with ETag and commit headers, a redirect to
another host for large files, error codes in X-Error-Code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Model:
    """What the hub has. `large` are the files that it keeps elsewhere."""

    name: str = "owner/model"
    files: dict[str, bytes] = field(default_factory=dict)
    large: frozenset[str] = frozenset()
    branches: frozenset[str] = frozenset({"main", COMMIT})
    token: str = ""
    """Whoever comes without it gets `refusal`."""
    refusal: tuple[int, str] = (401, "RepoNotFound")
    failures: int = 0
    """How many of the next requests are answered with 503."""
    storage: str = ""
    """URL of the other host."""
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Paths and headers of all requests."""


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, model: Model) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        model = self.server.model
        path = unquote(urlsplit(self.path).path)
        model.seen.append((path, dict(self.headers)))
        if model.failures:
            model.failures -= 1
            self._answer(503, b"busy")
        elif path.startswith("/stored/"):
            self._file(model.files[path.removeprefix("/stored/")])
        elif model.token and self.headers.get("Authorization") != f"Bearer {model.token}":
            self._answer(model.refusal[0], b"", {"X-Error-Code": model.refusal[1]})
        elif path.startswith(f"/api/models/{model.name}"):
            self._info(path.removeprefix(f"/api/models/{model.name}"))
        elif path.startswith(f"/{model.name}/resolve/{COMMIT}/"):
            self._resolve(path.removeprefix(f"/{model.name}/resolve/{COMMIT}/"))
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _info(self, rest: str) -> None:
        model = self.server.model
        if rest.removeprefix("/revision/") not in ({""} | model.branches):
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = [self._sibling(name, content) for name, content in model.files.items()]
        info = {"id": model.name, "modelId": model.name, "sha": COMMIT, "siblings": siblings, "tags": []}
        self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        found: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name in self.server.model.large:
            digest = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
        return found

    def _resolve(self, name: str) -> None:
        model = self.server.model
        if name not in model.files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif name in model.large:
            self._answer(302, b"", {"Location": f"{model.storage}/stored/{name}", "X-Repo-Commit": COMMIT})
        else:
            self._file(model.files[name])

    def _file(self, content: bytes) -> None:
        wanted = self.headers.get("Range", "")
        if not wanted:
            self._answer(200, content, {"ETag": '"etag"'})
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        self._answer(206, part, {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
