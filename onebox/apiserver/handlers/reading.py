"""get and list."""

from __future__ import annotations

import orjson
from aiohttp import web

from controller.base.json import JsonObject
from onebox.apiserver.context import Server
from onebox.apiserver.handlers.answers import in_form, json_answer, table_of
from onebox.apiserver.objects.encoding import list_bytes, object_bytes, parse_object, partial_list_bytes
from onebox.apiserver.objects.writing import key_of
from onebox.apiserver.pages import Page
from onebox.apiserver.requests import Form, Target, parse_form, parse_integer
from onebox.apiserver.selectors import Selector, parse_fields, parse_labels
from onebox.apiserver.status import not_found
from onebox.apiserver.storage.records import Record

_META_FIELDS = ("metadata.name", "metadata.namespace")


def find(server: Server, target: Target) -> Record:
    """The committed object that a path names; Refused (404) where there is none."""
    record = server.store.get(key_of(target))
    if record is None:
        raise not_found(target.resource.plural, target.resource.group, target.name)
    return record


async def get(server: Server, request: web.BaseRequest, target: Target) -> web.Response:
    """One object."""
    record = find(server, target)
    if parse_form(request.headers.get("Accept", "")) is Form.OBJECT:
        return json_answer(object_bytes(record, target))
    return json_answer(orjson.dumps(in_form(server, request, target, parse_object(record, target))))


def parse_selector(request: web.BaseRequest, target: Target) -> Selector:
    """What the request's selectors select."""
    query = request.query
    known = (*_META_FIELDS, *target.resource.strategy.selectable)
    labels, fields = parse_labels(query.get("labelSelector", "")), parse_fields(query.get("fieldSelector", ""), known)
    # A watch of one object's path is a watch of the collection for that name.
    named = (("metadata.name", target.name, True),) if target.name else ()
    return Selector(labels, (*fields, *named))


def select(server: Server, target: Target, selector: Selector) -> list[Record]:
    """The committed objects of a collection that a selector accepts, in order."""
    records = server.store.select(target.resource.key, target.namespace)
    return records if selector.everything else [record for record in records if selector.matches(record)]


async def list_objects(server: Server, request: web.BaseRequest, target: Target) -> web.Response:
    """A collection, or one page of it."""
    selector = parse_selector(request, target)
    query = request.query
    limit = parse_integer(query.get("limit") or "0")
    scope = "|".join(
        (target.resource.key, target.namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    )
    records, revision = select(server, target, selector), server.store.revision
    if query.get("continue"):
        page = server.pages.next(scope, query["continue"], records, revision, limit)
    else:
        page = server.pages.first(scope, records, revision, limit)
    return _page_answer(server, request, target, page, counted=selector.everything)


def _page_answer(
    server: Server, request: web.BaseRequest, target: Target, page: Page, *, counted: bool
) -> web.Response:
    metadata: JsonObject = {"resourceVersion": str(page.revision)}
    if page.token:
        metadata["continue"] = page.token
        if counted:
            metadata["remainingItemCount"] = page.remaining
    match parse_form(request.headers.get("Accept", "")):
        case Form.TABLE:
            values = (parse_object(record, target) for record in page.records)
            return json_answer(orjson.dumps(table_of(server, request, target, values, metadata)))
        case Form.METADATA:
            values = (parse_object(record, target) for record in page.records)
            return json_answer(partial_list_bytes(values, metadata))
        case _:
            return json_answer(list_bytes(target, (object_bytes(record, target) for record in page.records), metadata))
