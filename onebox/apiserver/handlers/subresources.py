"""scale, and reviews that are answered and never stored."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from controller.api.structural.node import ANYTHING
from controller.base.clock import rfc3339
from controller.base.errors import FieldError
from controller.base.json import JsonObject
from onebox.apiserver.authentication import user_of
from onebox.apiserver.context import Server
from onebox.apiserver.fields.managers import UPDATE, Manager, after_update, render_entries
from onebox.apiserver.fields.sets import FieldSet
from onebox.apiserver.handlers.answers import value_answer
from onebox.apiserver.handlers.reading import find
from onebox.apiserver.handlers.writing import latest, read_options, settle
from onebox.apiserver.objects.encoding import parse_object
from onebox.apiserver.objects.patching import APPLY_PATCH, JSON_PATCH
from onebox.apiserver.objects.scale import build_scale, set_replicas
from onebox.apiserver.patch.json_patch import BadPatch, json_patch
from onebox.apiserver.patch.merge import merge_patch
from onebox.apiserver.requests import Target, parse_write_options
from onebox.apiserver.status import bad_request, invalid_options


async def get_scale(server: Server, _request: web.BaseRequest, target: Target) -> web.Response:
    """Replicas wanted and seen."""
    return value_answer(build_scale(parse_object(find(server, target), target), target))


async def set_scale(server: Server, request: web.BaseRequest, target: Target) -> web.Response:
    """Replicas set, by PUT or any patch."""
    options = parse_write_options("UpdateOptions", _without_force(request), request.headers.get("User-Agent", ""))
    body = _parse(await request.read())
    record = latest(server, target)
    value = parse_object(record, target)
    if request.method == "PATCH":
        media = request.headers.get("Content-Type", "").split(";")[0].strip()
        body = _patched(build_scale(value, target, lenient=True), body, media, request)
    set_replicas(value, body, target)
    version = (body.get("metadata") or {}).get("resourceVersion")
    if version:
        value["metadata"]["resourceVersion"] = version
    written = server.writer.update(target, record, value, options, user=user_of(request))
    await settle(written)
    return value_answer(build_scale(written.value, target, lenient=True))


def _without_force(request: web.BaseRequest) -> dict[str, str]:
    return {name: value for name, value in request.query.items() if name != "force"}


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"error decoding Scale: {error}") from None


def _patched(scale: JsonObject, patch: Any, media: str, request: web.BaseRequest) -> JsonObject:
    if media == APPLY_PATCH and not request.query.get("fieldManager"):
        message = "Required value: is required for apply patch"
        error = FieldError(field="fieldManager", message=message, cause="FieldValueRequired")
        raise invalid_options("PatchOptions", error)
    try:
        patched: JsonObject = json_patch(scale, patch) if media == JSON_PATCH else merge_patch(scale, patch)
    except BadPatch as error:
        raise bad_request(str(error)) from error
    return patched


async def review(server: Server, request: web.BaseRequest, kind: str, api_version: str) -> web.Response:
    """Answers who may do what: every known user may do everything."""
    value = read_options(await request.read(), request, kind, api_version.rpartition("/")[0])
    options = parse_write_options("CreateOptions", request.query, request.headers.get("User-Agent", ""))
    now = rfc3339(server.clock.wall_s())
    manager = Manager(name=options.manager, operation=UPDATE, api_version=api_version)
    spec: JsonObject = value.get("spec") or {}
    entries = after_update((), {"spec": {}}, {"spec": spec}, node=ANYTHING, manager=manager, time=now)
    metadata: FieldSet = {"managedFields": render_entries(entries)} if entries else {}
    answer = {"kind": kind, "apiVersion": api_version, "metadata": metadata, "spec": spec}
    return value_answer({**answer, "status": _verdict(kind, request)}, 201)


def _verdict(kind: str, request: web.BaseRequest) -> JsonObject:
    if kind == "SelfSubjectReview":
        return {"userInfo": {"username": user_of(request), "groups": ["system:masters", "system:authenticated"]}}
    if kind == "SelfSubjectRulesReview":
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        anywhere = {"verbs": ["*"], "nonResourceURLs": ["*"]}
        return {"resourceRules": [everything], "nonResourceRules": [anywhere], "incomplete": False}
    return {"allowed": True}
