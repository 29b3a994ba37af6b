"""Puts an API server together, serves until told to stop, and takes it apart in order."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import sqlite3
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import orjson
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from controller.base.clock import Clock
from controller.base.errors import UserError
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.base.metrics_socket import metrics_on
from onebox.apiserver.admission import Admissions
from onebox.apiserver.authentication import Tokens
from onebox.apiserver.bootstrap import install
from onebox.apiserver.context import Server
from onebox.apiserver.discovery import Discovery
from onebox.apiserver.dispatch import Dispatcher
from onebox.apiserver.expiry import expire_events
from onebox.apiserver.objects.deletion import Deleter
from onebox.apiserver.objects.encoding import index_of
from onebox.apiserver.objects.writing import Writer
from onebox.apiserver.openapi import OpenApi
from onebox.apiserver.resources.builtin import BuiltinSchemas, builtin_resources
from onebox.apiserver.resources.crds import CRD, CRD_KEY, resource_of
from onebox.apiserver.resources.registry import Registry
from onebox.apiserver.storage.database import Database
from onebox.apiserver.storage.records import Change, ChangeType, Record
from onebox.apiserver.storage.store import Store
from onebox.apiserver.watches import WatchHub
from onebox.home import Home, metrics_socket

log = get_logger(__name__)

_HOST = "127.0.0.1"
_BODY_BYTES_MAX = 3 << 20
"""Largest body that is read: Kubernetes' limit of 3 MB for a request."""
_KEEP_ALIVE_S = 120.0
"""How long an idle connection is kept; longer than clients keep theirs, so that they close first."""
_STOP_S = 3.0
"""How long requests may take to end after SIGTERM; a guess, within what a supervisor waits."""


async def serve(home: Home, clock: Clock, rng: random.Random) -> None:
    """Serves until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_server(home, clock, rng) as server, _listening(home, server), _measured(home, server):
        gc.collect()
        gc.freeze()  # What a boot leaves lives as long as the process: collections need not walk it.
        log.info("serving", port=home.settings().api_port, revision=server.store.revision)
        await asyncio.to_thread(server.admissions.load)
        await stop.wait()
        log.info("stopping")
        server.watches.close()


def _measured(home: Home, server: Server) -> AbstractAsyncContextManager[None]:
    return metrics_on(metrics_socket(home, "apiserver"), [server.counts.collect])


@asynccontextmanager
async def open_server(home: Home, clock: Clock, rng: random.Random) -> AsyncIterator[Server]:
    """A server whose storage is open and whose definitions are installed; it listens to nobody yet."""
    schemas = BuiltinSchemas()
    registry = Registry(builtin_resources(schemas, CRD))
    store = Store(_open_database(home), lambda key, data: _index(registry, key, data))
    store.load()
    kinds = _Kinds(registry, schemas, store)
    for record in store.select(CRD_KEY):
        kinds.define(record)
    store.subscribe(kinds.on_change)
    admissions = Admissions(store)
    writer = Writer(store, admissions, clock, rng)
    server = Server(
        home=home,
        clock=clock,
        rng=rng,
        store=store,
        registry=registry,
        watches=WatchHub(store),
        admissions=admissions,
        writer=writer,
        deleter=Deleter(store, registry, writer, clock),
        discovery=Discovery(registry, f"{_HOST}:{home.settings().api_port}"),
        openapi=OpenApi(registry),
    )
    async with asyncio.TaskGroup() as tasks:
        storage = tasks.create_task(store.run())
        expiry = tasks.create_task(expire_events(store, registry, writer, clock))
        for written in install(store, registry, writer):
            if written.committed is not None:
                await written.committed
        try:
            yield server
        finally:
            expiry.cancel()
            storage.cancel()


def _open_database(home: Home) -> Database:
    try:
        return Database(home.database)
    except sqlite3.OperationalError as error:
        why = f"cannot open {home.database}: {error}; if another API server runs from {home.root}, stop it with: ladle down"
        raise UserError("DatabaseUnavailable", why) from error


@asynccontextmanager
async def _listening(home: Home, server: Server) -> AsyncIterator[None]:
    dispatcher = Dispatcher(server, Tokens(home.pki / "tokens.json"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home.pki / "server.crt", home.pki / "server.key")
    handler = web.Server(dispatcher, request_factory=_request, access_log=None, keepalive_timeout=_KEEP_ALIVE_S)
    runner = web.ServerRunner(handler, shutdown_timeout=_STOP_S)
    await runner.setup()
    port = home.settings().api_port
    try:
        await web.TCPSite(runner, _HOST, port, ssl_context=context).start()
    except OSError as error:
        await runner.cleanup()
        why = f"cannot listen on {_HOST}:{port}: {error.strerror}; choose another with --api-port"
        raise UserError("PortTaken", why) from error
    try:
        yield
    finally:
        await runner.cleanup()


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_BODY_BYTES_MAX)


class _Kinds:
    """Keeps the registry in step with the stored definitions."""

    def __init__(self, registry: Registry, schemas: BuiltinSchemas, store: Store) -> None:
        self._registry = registry
        self._schemas = schemas
        self._store = store

    def on_change(self, change: Change) -> None:
        if change.record.key.resource != CRD_KEY:
            return
        if change.type is ChangeType.DELETED:
            self._registry.remove(change.record.key.name)
        else:
            self.define(change.record)

    def define(self, record: Record) -> None:
        key = record.key

        def read() -> JsonView:
            current = self._store.get(key)
            stored: JsonView = orjson.loads((current or record).data)
            return stored

        self._registry.add(resource_of(orjson.loads(record.data), read, self._schemas.pool, self._schemas.meta))


def _index(registry: Registry, key: str, data: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
    resource = registry.by_key(key)
    value: JsonView = orjson.loads(data)
    if resource is None:  # A custom kind: those have no selectable fields of their own.
        return (value.get("metadata") or {}).get("labels") or {}, {}
    return index_of(value, resource.strategy)
