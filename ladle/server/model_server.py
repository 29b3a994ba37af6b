"""A model server put together: repository, REST, queue-proxy, admin port; and its life from SIGTERM back to start.

It loads first and listens then (docs/decisions/0016-listen-when-loaded.md): a request that comes too early is refused by the
kernel, so that whoever sent it can send it elsewhere, or again. Statistics and drain, on the admin port, answer at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ladle.clock import Clock, SystemClock
from ladle.errors import UserError
from ladle.log import get_logger
from ladle.server.access_log import AccessLog
from ladle.server.admin import AdminHandler, StatsReporter
from ladle.server.batcher import Batcher
from ladle.server.data_plane import DataPlane, server_version
from ladle.server.docs.pages import DocsPages
from ladle.server.execution import Runner
from ladle.server.http.application import Application, Dispatcher, Handler
from ladle.server.http.messages import Request, Response
from ladle.server.http.server import HttpServer
from ladle.server.loop import run_loop
from ladle.server.metrics import ServerMetrics
from ladle.server.model import Model
from ladle.server.model_folders import ModelFolders
from ladle.server.options import ServerOptions
from ladle.server.payload_log import PayloadLog
from ladle.server.queue_proxy import QueueProxy
from ladle.server.repository import ModelRepository, ServedModel
from ladle.server.rest.router import RestRouter
from ladle.server.termination import write_last_words
from ladle.server.waiting import until_listens
from ladle.server.workers.fleet import Fleet
from ladle.server.workers.plan import decide_share, decide_worker_count
from ladle.server.workers.ports import require_free, reserve
from ladle.server.workers.switchboard import Switchboard

if TYPE_CHECKING:
    from ladle.server.grpc.server import GrpcServer
    from ladle.server.http2.server import Http2Server

_UNTIMED_DRAIN_S = 600.0
"""How long answers may take to finish after SIGTERM where no request timeout bounds them: KServe's predictor timeout."""

log = get_logger(__name__)


def serve(*models: Model, options: ServerOptions | None = None, folders: ModelFolders | None = None) -> int:
    """Serves these models until SIGTERM; the exit code: 0, or 1 where a model could not be loaded.

    Without `options`, the command line and the environment say the rest. `folders`: where models may appear later; several
    workers keep to those that they began with.
    """
    chosen = options or ServerOptions.parse(sys.argv[1:], os.environ)
    workers = decide_worker_count(chosen.workers, chosen.queue.container_concurrency)
    if workers == 1:
        return run_loop(_serve(models, chosen, None, folders))
    try:
        return _serve_with_workers(models, chosen, workers)
    except OSError as error:  # Of binding: everything later is the workers'.
        write_last_words(f"cannot listen on {chosen.host}: {error}")
        return 1


def _serve_with_workers(models: Sequence[Model], options: ServerOptions, workers: int) -> int:
    with contextlib.ExitStack() as reserved:

        def reserve_port(port: int | None) -> int | None:
            if port is None:
                return None
            taken: int = reserved.enter_context(reserve(options.host, port)).getsockname()[1]
            return taken

        ports = replace(
            options,
            http_port=reserve_port(options.http_port) or 0,
            grpc_port=reserve_port(options.grpc_port),
            admin_port=reserve_port(options.admin_port),
        )
        capacity = options.queue.container_concurrency

        def run(fleet: Fleet, index: int) -> int:
            share = replace(ports.queue, container_concurrency=decide_share(capacity, workers, index))
            return run_loop(_serve(models, replace(ports, queue=share), fleet))

        return Switchboard(workers, run, clock=SystemClock()).serve()


async def _serve(
    models: Sequence[Model], options: ServerOptions, fleet: Fleet | None, folders: ModelFolders | None = None
) -> int:
    code = 1
    try:
        code = await _serve_until_stopped(models, options, fleet, folders)
    except* OSError as group:  # Of binding: everything later has its own answer to errors.
        write_last_words("; ".join(f"cannot listen on {options.host}: {error}" for error in group.exceptions))
    except* UserError as group:
        write_last_words("; ".join(str(error) for error in group.exceptions))
    return code


async def _serve_until_stopped(
    models: Sequence[Model], options: ServerOptions, fleet: Fleet | None, folders: ModelFolders | None
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with assembled(models, options, fleet=fleet, folders=folders) as server:
        if fleet is not None:
            await fleet.join(server, server.tasks, stop.set)
        loading = server.tasks.create_task(server.load())
        stopped = server.tasks.create_task(stop.wait())
        await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set() and not loading.result():
            stopped.cancel()
            return 1
        if not stop.is_set():
            await server.listen()
            if fleet is not None:
                fleet.loaded()
        await stopped
        loading.cancel()
        log.info("stopping", inside=server.queue_proxy.stats.concurrency)
        await server.drain()
        await server.repository.unload_all()
        return 0


@contextlib.asynccontextmanager
async def assembled(
    models: Sequence[Model],
    options: ServerOptions,
    clock: Clock | None = None,
    *,
    fleet: Fleet | None = None,
    folders: ModelFolders | None = None,
) -> AsyncIterator[ModelServer]:
    """A server that answers on its admin port only: `load` and `listen` are the caller's; closed after the block."""
    async with asyncio.TaskGroup() as tasks:
        server = ModelServer(models, options, tasks, clock=clock or SystemClock(), fleet=fleet, folders=folders)
        try:
            await server.open()
            yield server
        finally:
            await server.close()


@contextlib.asynccontextmanager
async def running(models: Sequence[Model], options: ServerOptions) -> AsyncIterator[ModelServer]:
    """A server that listens on all its ports; closed after the block. Loading its models is left to the caller."""
    async with assembled(models, options) as server:
        await server.listen()
        yield server


class ModelServer:
    """One process's worth of serving."""

    def __init__(
        self,
        models: Sequence[Model],
        options: ServerOptions,
        tasks: asyncio.TaskGroup,
        *,
        clock: Clock,
        fleet: Fleet | None = None,
        folders: ModelFolders | None = None,
    ) -> None:
        """`fleet`: the processes that serve as one with this one, if there are any; `folders`: as `serve` has it."""
        self.tasks = tasks
        self._fleet = fleet
        self._options = options
        self.metrics = ServerMetrics()
        self._clock = clock
        self.repository = ModelRepository(
            models,
            clock=clock,
            metrics=self.metrics,
            threads=options.threads,
            make_batcher=self._make_batcher if options.batching is not None else None,
            folders=folders,
        )
        self.data_plane = DataPlane(self.repository, clock=clock, metrics=self.metrics, fleet=fleet)
        self._router = RestRouter(self.data_plane, clock=clock, metrics=self.metrics)
        self._probe_path = _probe_path(options.queue.readiness_probe)
        self._access_log = AccessLog(clock) if options.access_log else None
        handler: Handler = DocsPages(self._router, server_version()) if options.docs else self._router
        self._payload_log: PayloadLog | None = None
        if options.payload_log is not None:
            self._payload_log = PayloadLog(options.payload_log, self.metrics.payload_events, tasks, clock=clock)
            handler = self._payload_log.around(handler)
        if self._access_log is not None:
            handler = self._access_log.timed(handler)
        self.queue_proxy = QueueProxy(handler, self._ready, tasks=tasks, settings=options.queue, clock=clock)
        guarded: Application = (
            self.queue_proxy if self._access_log is None else self._access_log.around(self.queue_proxy)
        )
        self._guarded = guarded
        self._http = HttpServer(guarded, tasks, clock=clock)
        self._http2: Http2Server | None = None
        self._reporter = StatsReporter(self.queue_proxy.stats, clock=clock, pod=options.queue.pod, reports=fleet)
        self._admin = HttpServer(Dispatcher(AdminHandler(self._reporter, self._wait), tasks), tasks, clock=clock)
        self._grpc: GrpcServer | None = None
        self.http_port = 0
        self.grpc_port = 0
        self.admin_port = 0

    def _make_batcher(self, runner: Runner, served: ServedModel) -> Batcher:
        settings = self._options.batching
        assert settings is not None, "asked for only then"
        return Batcher(runner, settings=settings, tasks=self.tasks, clock=self._clock, watch=served)

    async def open(self) -> None:
        """Answers on the admin port. OSError where a port is taken, the others too: not after minutes of loading only."""
        options, shared = self._options, self._fleet is not None
        if options.admin_port is not None:
            self.admin_port = await self._admin.listen(options.host, options.admin_port, shared=shared)
        if not shared:  # Else the parent holds them.
            for port in filter(None, (options.http_port, options.grpc_port)):
                require_free(options.host, port)

    async def listen(self) -> None:
        """Takes requests from here on; OSError where a port is taken."""
        shared = self._fleet is not None
        self.http_port = await self._http.listen(
            self._options.host, self._options.http_port, shared=shared, others=self._http2_connection
        )
        if self._options.grpc_port is not None:
            self.grpc_port = await self._start_grpc(self._options.grpc_port)
        ports = {"http_port": self.http_port, "grpc_port": self.grpc_port, "admin_port": self.admin_port}
        log.info("listening", host=self._options.host, **ports)

    def _http2_connection(self) -> asyncio.Protocol:
        """For a client of REST that speaks HTTP/2 with prior knowledge."""
        # Imported by the first of them: 20 ms that no other server pays.
        from ladle.server.http2.server import Http2Connection, Http2Server

        if self._http2 is None:
            limits = self._http.limits
            self._http2 = Http2Server(self._guarded, self.tasks, clock=self._clock, limits=limits, streams_bodies=False)
            self._http2.draining = self._http.draining
        return Http2Connection(self._http2)

    async def _start_grpc(self, port: int) -> int:
        # A tenth of a second that only servers of gRPC pay.
        from ladle.server.grpc.access_log import LoggedCalls
        from ladle.server.grpc.server import GrpcServer
        from ladle.server.http2.splice import Splice

        options = self._options
        self._grpc = GrpcServer(
            self.data_plane,
            self.queue_proxy,
            clock=self._clock,
            message_bytes_max=options.grpc_message_bytes_max,
            shared=self._fleet is not None,
            interceptors=() if self._access_log is None else (LoggedCalls(self._access_log, self._clock),),
        )
        shared = self._fleet is not None
        if not options.grpc_port_shared:
            return await self._grpc.listen(options.host, port)
        connect = await self._grpc.listen_inside()
        return await self._http.listen(options.host, port, shared=shared, others=lambda: Splice(connect, self.tasks))

    async def load(self) -> bool:
        """Loads every model; False, with the reason in the termination log, where one cannot be.

        Returns when the server that this one waits for, if any, listens too.
        """
        for name in self.repository.names():
            if self._fleet is not None and name in self._fleet.unloaded:
                self.repository.find(name).leave_out()
                continue
            try:
                await self.repository.load(name)
            except Exception as error:  # noqa: BLE001  # A model's code may raise anything, and all of it is the reason.
                write_last_words(f"Model {name} could not be loaded: {type(error).__name__}: {error}")
                return False
        gc.freeze()  # What was loaded stays: later collections need not look at it.
        if self._options.awaited_port is not None:
            await until_listens(self._options.host, self._options.awaited_port)
        return True

    def own_ready(self) -> bool:
        """Whether the models of this process are loaded."""
        return self.repository.ready

    async def perform(self, what: str, model: str) -> object:
        """What a process that serves with this one asked of all."""
        match what:
            case "load":
                await self.repository.load(model)
            case "unload":
                await self.repository.unload(model)
            case "drain":
                await self.queue_proxy.drainer.wait()
            case "metrics":
                self._router.refresh_gauges()
                return self.metrics.dump()
            case other:
                raise ValueError(f"what = {other}, must be load, unload, drain or metrics")
        return None

    async def _wait(self) -> None:
        """Drains: every process, where there are several."""
        if self._fleet is None:
            await self.queue_proxy.drainer.wait()
        else:
            await self._fleet.ask("drain", timeout_s=self._options.queue.timeout_s or _UNTIMED_DRAIN_S)

    async def drain(self) -> None:
        """Fails probes, waits until nobody sends any more, then until all is answered."""
        self.queue_proxy.drainer.finish()
        await self.queue_proxy.drainer.wait()
        timeout_s = self._options.queue.timeout_s or _UNTIMED_DRAIN_S
        async with asyncio.TaskGroup() as both:
            both.create_task(self._http.drain(timeout_s))
            if self._http2 is not None:
                both.create_task(self._http2.drain(timeout_s))
            if self._grpc is not None:
                both.create_task(self._grpc.drain(timeout_s))
        if self._payload_log is not None:
            await self._payload_log.delivery.drain()

    async def close(self) -> None:
        """Ends at once."""
        if self._grpc is not None:
            await self._grpc.close()
        if self._fleet is not None:
            self._fleet.leave()
        if self._payload_log is not None:
            self._payload_log.delivery.close()
        self._reporter.close()
        self._admin.close()
        self._http.close()
        if self._http2 is not None:
            self._http2.close()
        self.queue_proxy.close()
        self.repository.close()

    def _ready(self) -> bool:
        """Every model is loaded, and the user's own HTTP probe, if any, is content."""
        if not self.data_plane.ready():
            return False
        if self._probe_path is None:
            return True
        answer = self._router(Request("GET", self._probe_path, []))
        return isinstance(answer, Response) and 200 <= answer.status < 400


def _probe_path(probe: str) -> bytes | None:
    """The path of an httpGet probe; other kinds ask only whether the port is open, and it answers already."""
    try:
        path = json.loads(probe)["httpGet"]["path"]
    except (ValueError, KeyError, TypeError):
        return None
    return path.encode() if isinstance(path, str) else None
