"""Answers: bytes and headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web

from controller.base.json import JsonObject, JsonView
from onebox.apiserver.context import Server
from onebox.apiserver.objects.encoding import partial_metadata
from onebox.apiserver.requests import Form, Target, parse_form
from onebox.apiserver.status import Refused
from onebox.apiserver.tables.table import build_table

JSON = "application/json"
_JSON_HEADERS = {"Content-Type": JSON, "Cache-Control": "no-cache, private"}


def json_answer(body: bytes, code: int = 200, warnings: Iterable[str] = ()) -> web.Response:
    """An answer with this JSON."""
    response = web.Response(body=body, status=code, headers=_JSON_HEADERS)
    for warning in warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def value_answer(value: Any, code: int = 200) -> web.Response:
    return json_answer(orjson.dumps(value), code)


def refusal_answer(refusal: Refused) -> web.Response:
    response = json_answer(orjson.dumps(refusal.body()), refusal.code)
    if refusal.code == 429:
        response.headers["Retry-After"] = "1"
    return response


def text_answer(text: str, code: int = 200) -> web.Response:
    return web.Response(text=text, status=code, content_type="text/plain", charset="utf-8")


def object_answer(
    server: Server,
    request: web.BaseRequest,
    target: Target,
    value: JsonObject,
    code: int = 200,
    warnings: Iterable[str] = (),
) -> web.Response:
    """One object in the form that the request asks for."""
    body = orjson.dumps(in_form(server, request, target, value))
    return json_answer(body, code, warnings)


def in_form(server: Server, request: web.BaseRequest, target: Target, value: JsonObject) -> JsonView:
    """An object as itself, as its metadata or as a table with one row."""
    match parse_form(request.headers.get("Accept", "")):
        case Form.TABLE:
            version = value["metadata"].get("resourceVersion", "")
            return table_of(server, request, target, [value], {"resourceVersion": version})
        case Form.METADATA:
            return partial_metadata(value)
        case _:
            return value


def table_of(
    server: Server, request: web.BaseRequest, target: Target, values: Iterable[JsonObject], metadata: JsonObject
) -> JsonObject:
    """A table of objects, as `kubectl get` prints it."""
    return build_table(
        target.resource,
        target.version,
        values,
        metadata=metadata,
        now_s=server.clock.wall_s(),
        include=request.query.get("includeObject", "Metadata"),
    )
