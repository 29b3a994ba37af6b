"""Requests to a Kubernetes API server, as coroutines over one pool of connections.

Objects are plain JSON here: parsing them into types is the caller's job. Each call has a deadline, retries nothing (whoever
decides also decides what a failure means) and raises the errors of controller.kube.errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from yarl import URL

from controller.base.json import JsonObject, JsonView
from controller.kube.access import Access, load_access
from controller.kube.errors import Conflict, Gone, NotFound, error_of_answer, error_of_status, no_answer
from controller.kube.resources import ResourceType

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
LIST_PAGE_SIZE = 500
"""Objects asked for in one answer; Kubernetes' own informers use 500."""
CONNECTIONS_MAX = 1000
"""Connections of one client, its watches included (one each). Garbage collection watches every kind there is, so this is
kinds times watchers and far above what occurs (57 in onebox's engine, November 2026): at the limit, requests would hang."""
KEEP_ALIVE_S = 60.0
"""How long an idle connection is kept; below the 90 s of Go's servers, so that we close first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long the client waits for what."""

    request_s: float = 30.0
    """For a whole answer, other than a watch. A guess at Kubernetes' 60 s halved: callers retry anyway."""
    connect_s: float = 5.0
    """For a connection to be made. A guess: loopback takes 1 ms, another continent 0.5 s."""
    watch_silence_s: float = 130.0
    """Longest silence of a watch before it counts as broken: two bookmarks, which come every minute, and some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectList:
    """What a list returned, and the version that a watch may go on from."""

    items: list[JsonObject]
    resource_version: str


class WatchType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. A BOOKMARK's object has nothing but its metadata.resourceVersion."""

    type: WatchType
    object: JsonObject


class KubeClient:
    """Speaks to one API server as one user; open it with `async with KubeClient.open(...) as client`."""

    def __init__(self, session: aiohttp.ClientSession, access: Access, deadlines: Deadlines) -> None:
        self._session = session
        self._access = access
        self._deadlines = deadlines
        self._timeout = aiohttp.ClientTimeout(total=deadlines.request_s, connect=deadlines.connect_s)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, kubeconfig: Path | None = None, *, user_agent: str, deadlines: Deadlines | None = None
    ) -> AsyncIterator[KubeClient]:
        """A client for this kubeconfig, or where it is None for what $KUBECONFIG or the pod's account say."""
        access = await asyncio.to_thread(load_access, kubeconfig)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=access.tls or False, keepalive_timeout=KEEP_ALIVE_S)
        # Compression would cost both ends more than the bytes cost a cluster's network.
        headers = {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            yield cls(session, access, deadlines or Deadlines())

    async def get(self, resource: ResourceType, name: str, namespace: str | None = None) -> JsonObject:
        """The object; NotFound where there is none."""
        return await self._request("GET", resource.path(namespace, name))

    async def read(self, path: str) -> JsonObject:
        """What the server answers at this path: discovery, versions; for objects there is `get`."""
        return await self._request("GET", path)

    async def list(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList:
        """All objects, of one namespace or of all, at one version; pages are followed to the end."""
        selectors = _selectors(label_selector, field_selector)
        try:
            return await self._list_pages(resource, namespace, {**selectors, "limit": str(LIST_PAGE_SIZE)})
        except Gone:
            # The version that the pages were cut from expired while we read; one long answer cannot expire.
            return await self._list_pages(resource, namespace, selectors)

    async def create(self, resource: ResourceType, body: JsonView) -> JsonObject:
        """The object as stored; AlreadyExists where the name is taken."""
        return await self._request("POST", resource.path(_namespace_of(body)), body=body)

    async def apply(
        self,
        resource: ResourceType,
        body: JsonView,
        *,
        field_manager: str,
        force: bool = True,
        subresource: str | None = None,
    ) -> JsonObject:
        """The object after a server-side apply of `body`, created where it was missing."""
        query = {"fieldManager": field_manager, "force": "true" if force else "false"}
        path = _path_of(resource, body, subresource)
        return await self._request("PATCH", path, query=query, body=body, content_type=APPLY_PATCH)

    async def patch(
        self,
        resource: ResourceType,
        name: str,
        namespace: str | None,
        body: JsonView,
        *,
        subresource: str | None = None,
        field_manager: str | None = None,
    ) -> JsonObject:
        """The object after this JSON merge patch (RFC 7386): null removes a field, a list replaces the list."""
        query = {"fieldManager": field_manager} if field_manager else {}
        path = resource.path(namespace, name, subresource)
        return await self._request("PATCH", path, query=query, body=body, content_type=MERGE_PATCH)

    async def replace(
        self,
        resource: ResourceType,
        body: JsonView,
        *,
        subresource: str | None = None,
        field_manager: str | None = None,
    ) -> JsonObject:
        """The object after it was replaced; Conflict where `body` carries a version that is not the newest."""
        query = {"fieldManager": field_manager} if field_manager else {}
        return await self._request("PUT", _path_of(resource, body, subresource), query=query, body=body)

    async def delete(
        self,
        resource: ResourceType,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace_period_s: int | None = None,
    ) -> None:
        """Asks for deletion; success where the object, or the one with this uid, is gone already."""
        options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        try:
            await self._request("DELETE", resource.path(namespace, name), body=options)
        except NotFound:
            return
        except Conflict:
            if not uid:
                raise
            # Another object has the name by now; ours is gone.

    async def watch(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after `resource_version`, bookmarks included, until the server ends the watch after `timeout_s`.

        Gone: the version is too old, list again. Unavailable: the connection broke or fell silent, watch again.
        """
        query = {
            **_selectors(label_selector, field_selector),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(timeout_s))),
        }
        async with aclosing(self._watch_lines(resource.path(namespace), query, timeout_s=timeout_s)) as lines:
            async for line in lines:
                if line.strip():
                    yield _watch_event(line)

    async def _watch_lines(
        self, path: str, query: Mapping[str, str], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        timeout = aiohttp.ClientTimeout(
            total=timeout_s + self._deadlines.watch_silence_s,
            connect=self._deadlines.connect_s,
            sock_read=self._deadlines.watch_silence_s,
        )
        try:
            async with self._session.get(self._url(path, query), **await self._options(timeout)) as answer:
                if answer.status != 200:
                    raise error_of_answer(answer.status, await answer.read())
                async for line in _lines(answer.content):
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise no_answer(f"watch of {path} broke: {error or type(error).__name__}") from error

    async def _list_pages(self, resource: ResourceType, namespace: str | None, query: Mapping[str, str]) -> ObjectList:
        items: list[JsonObject] = []
        more = ""
        while True:
            page = await self._request(
                "GET", resource.path(namespace), query={**query, "continue": more} if more else query
            )
            items += page.get("items") or ()
            meta = page.get("metadata") or {}
            more = meta.get("continue") or ""
            if not more:
                break
        for item in items:
            # A list says its kind once; an object that goes its own way must know it.
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return ObjectList(items=items, resource_version=str(meta.get("resourceVersion", "")))

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonView | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        options = await self._options(self._timeout)
        if body is not None:
            options["data"] = orjson.dumps(body)
            options["headers"] = {**options["headers"], "Content-Type": content_type}
        try:
            async with self._session.request(method, self._url(path, query), **options) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise no_answer(f"{method} {path}: {error or type(error).__name__}") from error
        if answer.status >= 300:
            raise error_of_answer(answer.status, content)
        parsed: JsonObject = orjson.loads(content)
        return parsed

    async def _options(self, timeout: aiohttp.ClientTimeout) -> dict[str, Any]:
        authorization = await self._access.authorization() if self._access.authorization else None
        return {
            "headers": {"Authorization": authorization} if authorization else {},
            "timeout": timeout,
            "proxy": self._access.proxy,
            "server_hostname": self._access.tls_server_name,
            "allow_redirects": False,
        }

    def _url(self, path: str, query: Mapping[str, str] | None = None) -> URL:
        url = URL(self._access.server + path)
        return url.with_query(query) if query else url


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in given.items() if value}


def _namespace_of(body: JsonView) -> str | None:
    namespace: str | None = body["metadata"].get("namespace")
    return namespace


def _path_of(resource: ResourceType, body: JsonView, subresource: str | None) -> str:
    return resource.path(_namespace_of(body), body["metadata"]["name"], subresource)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # aiohttp's own readline refuses lines beyond its buffer, and one object may have 1.5 MB.
    tail = b""
    async for chunk in content.iter_any():
        *whole, rest = chunk.split(b"\n")
        if whole:
            yield tail + whole[0]
            for line in whole[1:]:
                yield line
            tail = rest
        else:
            tail += rest


def _watch_event(line: bytes) -> WatchEvent:
    event = orjson.loads(line)
    if event["type"] == "ERROR":
        raise error_of_status(event["object"])
    return WatchEvent(WatchType(event["type"]), event["object"])
