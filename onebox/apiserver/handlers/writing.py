"""create, update, patch, delete, deletecollection."""

from __future__ import annotations

import orjson
from aiohttp import web

from controller.base.json import JsonObject
from onebox.apiserver.authentication import user_of
from onebox.apiserver.context import Server
from onebox.apiserver.handlers.answers import json_answer, object_answer, value_answer
from onebox.apiserver.handlers.reading import parse_selector, select
from onebox.apiserver.kinds.strategy import Deletion
from onebox.apiserver.objects.decoding import check_identity, duplicate_keys, parse_body
from onebox.apiserver.objects.encoding import list_bytes
from onebox.apiserver.objects.patching import (
    APPLY_PATCH,
    apply_object,
    build_transform,
    check_patch_type,
    patch_object,
)
from onebox.apiserver.objects.protobuf import MEDIA_TYPE, BadMessage, decode_object
from onebox.apiserver.objects.shaping import shape
from onebox.apiserver.objects.writing import Written, key_of
from onebox.apiserver.requests import Target, WriteOptions, parse_delete_options, parse_write_options
from onebox.apiserver.status import bad_request, method_not_allowed, not_found, success
from onebox.apiserver.storage.records import Record


async def create(server: Server, request: web.BaseRequest, target: Target) -> web.Response:
    """A new object."""
    if target.name:
        raise method_not_allowed()
    options = _options("CreateOptions", request)
    value, warnings = _decode(await request.read(), request, target, options)
    if target.resource.namespaced and not target.namespace:
        raise method_not_allowed()
    written = server.writer.create(target, value, options, user=user_of(request))
    return await _answer(server, request, target, written, code=201, warnings=warnings)


async def update(server: Server, request: web.BaseRequest, target: Target) -> web.Response:
    """A stored object replaced."""
    options = _options("UpdateOptions", request)
    value, warnings = _decode(await request.read(), request, target, options)
    record = latest(server, target)
    if target.subresource == "finalize":
        written = server.writer.finalize(target, record, value)
    else:
        written = server.writer.update(target, record, value, options, user=user_of(request))
    return await _answer(server, request, target, written, warnings=warnings)


async def patch(server: Server, request: web.BaseRequest, target: Target) -> web.Response:
    """A stored object changed; an apply may create it."""
    media = request.headers.get("Content-Type", "").split(";")[0].strip()
    check_patch_type(media, target)
    applying = media == APPLY_PATCH
    options = parse_write_options("PatchOptions", request.query, request.headers.get("User-Agent", ""), apply=applying)
    body, user = await request.read(), user_of(request)
    if applying:
        record = server.store.latest(key_of(target))
        patched = apply_object(server.writer, target, record, body, options=options, user=user)
    else:
        transform = build_transform(media, body, target)
        record = latest(server, target)
        patched = patch_object(server.writer, target, record, transform, options=options, user=user)
    code = 201 if patched.created else 200
    return await _answer(server, request, target, patched.written, code=code, warnings=patched.warnings)


async def delete(server: Server, request: web.BaseRequest, target: Target) -> web.Response:
    """An object deleted, or marked for it."""
    options = parse_delete_options(request.query, await _delete_body(request))
    record = latest(server, target)
    deleted = server.deleter.delete(target, record, options)
    await settle(deleted.written)
    resource = target.resource
    if deleted.gone and resource.strategy.deletion is Deletion.AT_ONCE:
        uid = deleted.written.value["metadata"]["uid"]
        return value_answer(success(target.name, resource.group, resource.plural, uid))
    return object_answer(server, request, target, deleted.written.value)


async def delete_collection(server: Server, request: web.BaseRequest, target: Target) -> web.Response:
    """All selected objects of a collection deleted."""
    if target.resource.namespaced and not target.namespace:
        raise method_not_allowed()
    options = parse_delete_options(request.query, await _delete_body(request))
    selected = select(server, target, parse_selector(request, target))
    deleted = []
    for record in selected:
        one = Target(
            resource=target.resource, version=target.version, namespace=record.key.namespace, name=record.key.name
        )
        current = server.store.latest(record.key)
        if current is not None:
            deleted.append(server.deleter.delete(one, current, options))
    for each in deleted:
        await settle(each.written)
    metadata: JsonObject = {"resourceVersion": str(server.store.revision)}
    return json_answer(list_bytes(target, (orjson.dumps(each.written.value) for each in deleted), metadata))


def latest(server: Server, target: Target) -> Record:
    """The state that a write builds on; Refused (404) where there is none."""
    record = server.store.latest(key_of(target))
    if record is None:
        raise not_found(target.resource.plural, target.resource.group, target.name)
    return record


async def settle(written: Written) -> None:
    """Returns when a decided write is durable and visible."""
    if written.committed is not None:
        await written.committed


def _options(kind: str, request: web.BaseRequest) -> WriteOptions:
    return parse_write_options(kind, request.query, request.headers.get("User-Agent", ""))


def _decode(
    body: bytes, request: web.BaseRequest, target: Target, options: WriteOptions
) -> tuple[JsonObject, tuple[str, ...]]:
    value = parse_body(body, request.headers.get("Content-Type", ""), target)
    duplicates = duplicate_keys(body) if options.validation_asked else ()
    check_identity(value, target)
    return value, shape(value, target, options, duplicates)


async def _delete_body(request: web.BaseRequest) -> JsonObject:
    body = await request.read()
    return read_options(body, request, "DeleteOptions", "meta") if body.strip() else {}


def read_options(body: bytes, request: web.BaseRequest, kind: str, group: str) -> JsonObject:
    """A body that is no stored object: options of a deletion, a review."""
    try:
        if request.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
            return decode_object(body, group, kind)
        options = orjson.loads(body)
    except (orjson.JSONDecodeError, BadMessage) as error:
        raise bad_request(f"error decoding {kind}: {error}") from None
    if not isinstance(options, dict):
        raise bad_request(f"error decoding {kind}: not an object")
    return options


async def _answer(
    server: Server,
    request: web.BaseRequest,
    target: Target,
    written: Written,
    *,
    code: int = 200,
    warnings: tuple[str, ...] = (),
) -> web.Response:
    await settle(written)
    return object_answer(server, request, target, written.value, code, warnings)
