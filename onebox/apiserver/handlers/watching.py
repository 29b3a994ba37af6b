"""watch: what there is, what changed since, and every change from now on, one JSON line each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import orjson
from aiohttp import web

from controller.base.json import JsonObject
from onebox.apiserver.context import Server
from onebox.apiserver.handlers.answers import JSON, table_of
from onebox.apiserver.handlers.reading import parse_selector, select
from onebox.apiserver.objects.encoding import object_bytes, parse_object, partial_metadata
from onebox.apiserver.requests import Form, Target, parse_flag, parse_form, parse_integer
from onebox.apiserver.status import expired
from onebox.apiserver.storage.records import ChangeType, Record
from onebox.apiserver.watches import Encode, Watcher

BOOKMARK_PERIOD_S = 30.0
"""How often a quiet watch hears how far it is. Kubernetes: about a minute; half of it costs one line."""
_TIMEOUT_MIN_S, _TIMEOUT_MAX_S = 1800, 3600
"""How long a watch lasts whose caller names no limit: chosen between these, as kube-apiserver does."""


async def watch(server: Server, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """Streams changes until the timeout, the client or the server ends it."""
    selector, query = parse_selector(request, target), request.query
    form = parse_form(request.headers.get("Accept", ""))
    encode = _encoder(server, request, target, form)
    asked = query.get("resourceVersion", "")
    initial = asked in ("", "0") or parse_flag(query, "sendInitialEvents")
    since = server.store.revision if initial else parse_integer(asked)
    timeout_s = parse_integer(query.get("timeoutSeconds") or "0")
    # Tables differ by what they include, so that only plain watchers share lines.
    shared = (target.version.name, form) if form is not Form.TABLE else object()
    watcher = Watcher(target.resource.key, target.namespace, selector, encode, shared)
    if initial:
        _push_initial(server, request, target, watcher, select(server, target, selector))
    if not server.watches.add(watcher, since):
        watcher.push(_too_old(server, since))
        watcher.lagging = True
    try:
        return await _stream(
            server, request, target, watcher, timeout_s or server.rng.randint(_TIMEOUT_MIN_S, _TIMEOUT_MAX_S)
        )
    finally:
        server.watches.remove(watcher)


async def _stream(
    server: Server, request: web.BaseRequest, target: Target, watcher: Watcher, timeout_s: float
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": JSON, "Cache-Control": "no-cache, private"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    bookmarks = parse_flag(request.query, "allowWatchBookmarks")
    deadline_s = server.clock.monotonic_s() + timeout_s
    try:
        while not server.watches.closing.is_set():
            left_s = deadline_s - server.clock.monotonic_s()
            chunk = await watcher.take(max(0.0, min(left_s, BOOKMARK_PERIOD_S)))
            if chunk:
                await response.write(chunk)
            if watcher.lagging or left_s <= 0:
                break
            if not chunk and bookmarks:
                await response.write(_bookmark(target, server.store.revision))
        await response.write_eof()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # The client has gone; there is nobody to tell.
    return response


def _encoder(server: Server, request: web.BaseRequest, target: Target, form: Form) -> Encode:
    def encode(type_: ChangeType, record: Record) -> bytes:
        return b'{"type":"%s","object":%s}\n' % (type_.value.encode(), _body(server, request, target, form, record))

    return encode


def _body(server: Server, request: web.BaseRequest, target: Target, form: Form, record: Record) -> bytes:
    if form is Form.OBJECT:
        return object_bytes(record, target)
    value = parse_object(record, target)
    if form is Form.METADATA:
        return orjson.dumps(partial_metadata(value))
    metadata = {"resourceVersion": str(record.revision)}
    return orjson.dumps(table_of(server, request, target, [value], metadata))


def _push_initial(
    server: Server, request: web.BaseRequest, target: Target, watcher: Watcher, records: Iterable[Record]
) -> None:
    for record in records:
        watcher.push(watcher.encode(ChangeType.ADDED, record))
    if parse_flag(request.query, "sendInitialEvents"):
        annotations = {"k8s.io/initial-events-end": "true"}
        watcher.push(_bookmark(target, server.store.revision, {"annotations": annotations}))


def _bookmark(target: Target, revision: int, more: JsonObject | None = None) -> bytes:
    body = {
        "kind": target.resource.kind,
        "apiVersion": target.api_version,
        "metadata": {"resourceVersion": str(revision), **(more or {})},
    }
    return orjson.dumps({"type": "BOOKMARK", "object": body}) + b"\n"


def _too_old(server: Server, since: int) -> bytes:
    message = f"too old resource version: {since} ({server.store.history.compacted})"
    return orjson.dumps({"type": "ERROR", "object": expired(message).body()}) + b"\n"
