"""A small API server over real HTTP whose watches a test can break, silence and let expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from controller.kube.client import Deadlines, KubeClient

Object = dict[str, Any]
COLLECTIONS = (
    "pods",
    "nodes",
    "configmaps",
    "events",
    "leases",
    "namespaces",
    "endpoints",
    "deployments",
    "revisions",
)


@dataclass
class ScriptedApi:
    """Objects by path, and the history that watches replay."""

    objects: dict[str, Object] = field(default_factory=dict)
    version: int = 100
    oldest: int = 0
    """A watch from before this version gets 410."""
    history: list[tuple[int, str, str, Object]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)
    """Answers given instead of the real ones, first come first served (watches excepted)."""
    page_size_max: int = 500
    open_watches: int = 0
    mute: bool = False
    """Watches that begin while this is set never say anything, as behind a dead firewall."""
    hangs: bool = False
    """While set, requests get no answer."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _transports: list[web.Request] = field(default_factory=list)

    def put(self, path: str, obj: Object) -> Object:
        """Stores the object of this path as any other client would."""
        self.version += 1
        known = self.objects.get(path)
        name = path.rsplit("/", 1)[1]
        namespace = path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in path else ""
        meta = {"uid": f"uid-{self.version}" if known is None else known["metadata"]["uid"], **obj.get("metadata", {})}
        meta |= {"name": name, "resourceVersion": str(self.version)} | ({"namespace": namespace} if namespace else {})
        stored = {**obj, "metadata": meta}
        self.objects[path] = stored
        self._record("ADDED" if known is None else "MODIFIED", path, stored)
        return stored

    def remove(self, path: str) -> None:
        self.version += 1
        gone = self.objects.pop(path)
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        self._record("DELETED", path, gone)

    def bookmark(self) -> None:
        """Tells all watches how far they have come."""
        self.version += 1
        self._record("BOOKMARK", "", {"kind": "Pod", "metadata": {"resourceVersion": str(self.version)}})

    def expire(self) -> None:
        """Forgets the history: only watches from now on are served."""
        self.oldest = self.version
        self.history.clear()

    def break_watches(self) -> None:
        """Cuts the connections of all watches in the middle."""
        for request in self._transports:
            if request.transport is not None:
                request.transport.abort()
        self._transports.clear()
        self._notify()

    def watches(self) -> list[str]:
        return [path for method, path in self.requests if method == "WATCH"]

    def lists(self) -> list[str]:
        return [path for method, path in self.requests if method == "LIST"]

    def _record(self, kind: str, path: str, obj: Object) -> None:
        self.history.append((self.version, kind, path, obj))
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        collection = request.path.rsplit("/", 1)[1] in COLLECTIONS
        watch = request.query.get("watch") == "true"
        verb = "WATCH" if watch else "LIST" if request.method == "GET" and collection else request.method
        self.requests.append((verb, request.path_qs))
        self.headers.append(dict(request.headers))
        body = await request.read()
        self.bodies.append((verb, request.path, body))
        while self.hangs:
            await self._changed.wait()
        if self.answers and not watch:
            return self.answers.pop(0)
        match verb:
            case "WATCH":
                return await self._watch(request)
            case "LIST":
                return self._list(request)
            case "POST":
                return self._create(request.path, orjson.loads(body))
            case _:
                return self._change(request, body)

    def _list(self, request: web.Request) -> web.Response:
        found = [obj for path, obj in self.objects.items() if _matches(request.path, path)]
        size = min(int(request.query.get("limit", len(found) or 1)), self.page_size_max)
        start = int(request.query.get("continue") or 0)
        meta = {"resourceVersion": str(self.version)}
        if start + size < len(found):
            meta["continue"] = str(start + size)
        # As real servers do, the items do not repeat what the list says.
        items = [
            {k: v for k, v in obj.items() if k not in ("apiVersion", "kind")} for obj in found[start : start + size]
        ]
        return _json({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items})

    def _create(self, collection: str, obj: Object) -> web.Response:
        path = f"{collection}/{obj['metadata']['name']}"
        if path in self.objects:
            return status(409, "AlreadyExists")
        return _json(self.put(path, obj), 201)

    def _change(self, request: web.Request, body: bytes) -> web.Response:
        path = request.path.removesuffix("/status")
        stored = self.objects.get(path)
        if stored is None and "apply-patch" not in request.content_type:
            return status(404, "NotFound")
        match request.method:
            case "GET":
                return _json(stored)
            case "DELETE":
                self.remove(path)
                return _json({"kind": "Status", "status": "Success"})
            case "PUT":
                new = orjson.loads(body)
                if new["metadata"].get("resourceVersion") not in (None, (stored or {})["metadata"]["resourceVersion"]):
                    return status(409, "Conflict")
                return _json(self.put(path, new))
            case _:
                return _json(self.put(path, _merge(stored or {}, orjson.loads(body))))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        start = int(request.query["resourceVersion"])
        if start < self.oldest:
            return status(410, "Expired")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._transports.append(request)
        self.open_watches += 1
        try:
            async with asyncio.timeout(int(request.query["timeoutSeconds"])):
                await self._stream(request, response, start)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self.open_watches -= 1
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse, start: int) -> None:
        mute = self.mute
        while request.transport is not None:
            changed = self._changed
            for version, kind, path, obj in list(self.history):
                if version > start and not mute and (kind == "BOOKMARK" or _matches(request.path, path)):
                    await response.write(orjson.dumps({"type": kind, "object": obj}) + b"\n")
                    start = version
            await changed.wait()


def _matches(collection: str, path: str) -> bool:
    wanted = collection.rsplit("/", 1)
    found = path.rsplit("/", 2)
    return found[1] == wanted[1] and (found[0] == wanted[0] or "/namespaces/" not in collection)


def _merge(old: Object, patch: Object) -> Object:
    merged = dict(old)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merge(old.get(name) or {}, value)
        else:
            merged[name] = value
    return merged


def _json(value: Any, code: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=code, content_type="application/json")


def status(code: int, reason: str, message: str = "", **details: Any) -> web.Response:
    """A Status object as an answer."""
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message or reason}
    return _json({**body, "details": details}, code)


@dataclass
class Connection:
    api: ScriptedApi
    client: KubeClient
    kubeconfig: Path


@asynccontextmanager
async def connected(folder: Path, deadlines: Deadlines | None = None) -> AsyncIterator[Connection]:
    """A running server and a client that reached it through a kubeconfig with a token."""
    api = ScriptedApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    async with TestServer(app) as server:
        kubeconfig = write_kubeconfig(folder / "kubeconfig", {"server": str(server.make_url("/"))}, {"token": "secret"})
        async with KubeClient.open(kubeconfig, user_agent="test", deadlines=deadlines) as client:
            yield Connection(api, client, kubeconfig)
        api.hangs = False
        api.break_watches()


def write_kubeconfig(path: Path, cluster: Object, user: Object) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_bytes(orjson.dumps(document))  # JSON is YAML.
    return path
