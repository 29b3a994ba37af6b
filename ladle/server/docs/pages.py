"""The docs pages as answers of the model server: an ASGI application called without a server for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from ladle.errors import Unsupported
from ladle.server.docs.document import build_document
from ladle.server.http.application import Answer, Handler
from ladle.server.http.messages import Header, Request, Response
from ladle.server.rest.answers import error_answer

_TIMEOUT_S = 60.0
"""For the first page, which waits for the import: seconds on a cold disk. A guess."""
_PATHS = frozenset({"/docs", "/openapi.json"})
_SET_BY_SERVER = frozenset({b"content-length", b"content-type", b"connection", b"transfer-encoding", b"date"})
AsgiApplication: TypeAlias = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class DocsPages:
    """A Handler that answers /docs, /docs/... and /openapi.json, and leaves other paths to another one."""

    def __init__(self, others: Handler, version: str) -> None:
        self._others = others
        self._version = version
        self._loading: asyncio.Lock = asyncio.Lock()
        self._application: AsgiApplication | None = None

    def __call__(self, request: Request) -> Answer:
        path = request.path
        if path in _PATHS or path.startswith("/docs/"):
            return self._answer(request)
        return self._others(request)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._page(request)
        except Exception as error:  # noqa: BLE001  # The top of a request: every error has an answer.
            return error_answer(error)

    async def _page(self, request: Request) -> Response:
        async with asyncio.timeout(_TIMEOUT_S):
            async with self._loading:
                if self._application is None:
                    # In a thread: half a second of imports must not hold up the predictions beside it.
                    self._application = await asyncio.to_thread(self._import)
            return await _call(self._application, request)

    def _import(self) -> AsgiApplication:
        try:
            from ladle.server.docs.app import docs_application
        except ImportError as error:
            raise Unsupported(f"the docs page needs more packages, install ladle[docs]: {error}") from None
        return docs_application(build_document(self._version))


async def _call(application: AsgiApplication, request: Request) -> Response:
    start: dict[str, Any] = {}
    pieces: list[bytes] = []

    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:  # Whether the client left: who asks that waits, and is cancelled when the answer is complete.
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": bytes(request.body), "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            pieces.append(message.get("body", b""))

    await application(_scope(request), receive, send)
    headers: list[Header] = list(start["headers"])
    content_type = next((value for name, value in headers if name == b"content-type"), b"")
    kept = tuple(header for header in headers if header[0] not in _SET_BY_SERVER)
    return Response(start["status"], b"".join(pieces), content_type=content_type, headers=kept)


def _scope(request: Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": request.version,
        # HEAD as GET, whose body the HTTP server leaves out.
        "method": "GET" if request.method == "HEAD" else request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.target,
        "query_string": request.target.partition(b"?")[2],
        "root_path": "",
        "headers": [header for header in request.raw_headers if header[0] != b"range"],
    }
