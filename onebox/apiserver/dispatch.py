"""Finds the handler of a request and turns whatever goes wrong into an answer. The only place that knows all paths."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable

from aiohttp import web

from controller.base.logging import get_logger
from onebox.apiserver.authentication import Tokens
from onebox.apiserver.context import Server
from onebox.apiserver.discovery import REVIEWS, plural_of_review
from onebox.apiserver.handlers import logs, reading, subresources, watching, writing
from onebox.apiserver.handlers.answers import JSON, refusal_answer, text_answer, value_answer
from onebox.apiserver.requests import Target, parse_flag, parse_target
from onebox.apiserver.status import PageNotFound, Refused, busy, internal_error, method_not_allowed, too_large
from onebox.apiserver.storage.store import StorageBusy, StorageFailed

log = get_logger(__name__)

_HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_CACHE_FOR_EVER = "public, immutable, max-age=31536000"

_RESOURCE = "resource"
"""Where a request keeps which kind it is about, for the metrics."""
_CLIENT_GONE = 499
"""In metrics: the client left before the answer; nginx' number."""

Handler = Callable[[Server, web.BaseRequest, Target], Awaitable[web.StreamResponse]]
_COLLECTION: dict[str, Handler] = {
    "GET": reading.list_objects,
    "POST": writing.create,
    "DELETE": writing.delete_collection,
}
_OBJECT: dict[str, Handler] = {
    "GET": reading.get,
    "PUT": writing.update,
    "PATCH": writing.patch,
    "DELETE": writing.delete,
}
_SCALE: dict[str, Handler] = {
    "GET": subresources.get_scale,
    "PUT": subresources.set_scale,
    "PATCH": subresources.set_scale,
}
_STATUS: dict[str, Handler] = {"GET": reading.get, "PUT": writing.update, "PATCH": writing.patch}


class Dispatcher:
    """One API server's request handler."""

    def __init__(self, server: Server, tokens: Tokens) -> None:
        self._server = server
        self._tokens = tokens

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        started_s, code = self._server.clock.monotonic_s(), _CLIENT_GONE
        try:
            response = await self._answer(request)
            code = response.status
            return response
        finally:
            took_s = self._server.clock.monotonic_s() - started_s
            self._server.counts.answered(_verb(request), request.get(_RESOURCE, ""), code, took_s)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if request.path in _HEALTH:
                return text_answer("ok")
            self._tokens.authenticate(request)
            return await self._route(request)
        except Refused as refusal:
            return refusal_answer(refusal)
        except PageNotFound:
            return text_answer("404 page not found\n", 404)
        except web.HTTPRequestEntityTooLarge as error:
            return refusal_answer(too_large(error.text or ""))
        except StorageBusy as error:
            return refusal_answer(busy(str(error)))
        except StorageFailed as error:
            return refusal_answer(internal_error(str(error)))
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:  # The loop's top: one broken request must neither end the server nor its connection silently.
            log.exception("request failed", method=request.method, path=request.path)
            return refusal_answer(internal_error("the server met a bug of its own; its log has the traceback"))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        document = self._document(request, path.rstrip("/"))
        if document is not None:
            return document
        if (reviewed := _review_of(path)) is not None and request.method == "POST":
            return await subresources.review(self._server, request, *reviewed)
        target = parse_target(path, self._server.registry)
        request[_RESOURCE] = target.resource.key
        return await _handler(request, target)(self._server, request, target)

    def _document(self, request: web.BaseRequest, path: str) -> web.StreamResponse | None:
        """Answers about the API itself."""
        discovery, parts = self._server.discovery, path.strip("/").split("/")
        if path.startswith("/openapi/"):
            return self._openapi(request, path)
        if path == "/version":
            return value_answer(discovery.version())
        if path in ("/api", "/apis"):
            if "as=APIGroupDiscoveryList" in request.headers.get("Accept", "") and "v=v2" in request.headers["Accept"]:
                answer = value_answer(discovery.aggregated(core=path == "/api"))
                answer.headers["Content-Type"] = _AGGREGATED
                return answer
            return value_answer(discovery.core_versions() if path == "/api" else discovery.group_list())
        if path == "/api/v1":
            return value_answer(discovery.resource_list("", "v1"))
        if parts[0] == "apis" and len(parts) in (2, 3):
            found = discovery.group(parts[1]) if len(parts) == 2 else discovery.resource_list(parts[1], parts[2])
            if found is None:
                raise PageNotFound
            return value_answer(found)
        return None

    def _openapi(self, request: web.BaseRequest, path: str) -> web.Response:
        openapi = self._server.openapi
        if path == "/openapi/v3":
            return value_answer(openapi.index())
        document = openapi.document(path.removeprefix("/openapi/v3/")) if path.startswith("/openapi/v3/") else None
        if document is None:
            raise PageNotFound
        headers = {"Content-Type": JSON}
        if request.query.get("hash"):
            headers["Cache-Control"] = _CACHE_FOR_EVER
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=document, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=gzip.decompress(document), headers=headers)


def _verb(request: web.BaseRequest) -> str:
    method = request.method
    if method == "GET" and parse_flag(request.query, "watch"):
        return "WATCH"
    return method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS") else "other"


def _handler(request: web.BaseRequest, target: Target) -> Handler:
    method = request.method
    if target.subresource:
        handlers = _handlers_of_subresource(target)
    elif target.name:
        if method == "GET" and parse_flag(request.query, "watch"):
            return watching.watch
        handlers = _OBJECT
    else:
        if method == "GET" and parse_flag(request.query, "watch"):
            return watching.watch
        handlers = _COLLECTION
    handler = handlers.get(method)
    if handler is None:
        raise method_not_allowed()
    return handler


def _handlers_of_subresource(target: Target) -> dict[str, Handler]:
    key, name = target.resource.key, target.subresource
    if name == "status" and target.version.has_status:
        return _STATUS
    if name == "scale" and target.version.scale is not None:
        return _SCALE
    if name == "log" and key == "pods":
        return {"GET": logs.read_logs}
    if name == "finalize" and key == "namespaces":
        return {"PUT": writing.update}
    raise PageNotFound


def _review_of(path: str) -> tuple[str, str] | None:
    """(kind, apiVersion) of a review that is created at this path."""
    parts = path.strip("/").split("/")
    if len(parts) != 4 or parts[0] != "apis" or parts[2] != "v1":
        return None
    for kind in REVIEWS.get(parts[1], ()):
        if plural_of_review(kind) == parts[3]:
            return kind, f"{parts[1]}/v1"
    return None
