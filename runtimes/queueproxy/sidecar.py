"""The sidecar put together: the queue-proxy of ladle.server around a reverse proxy."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ladle.clock import Clock
from ladle.log import get_logger
from ladle.server.admin import AdminHandler, StatsReporter
from ladle.server.batch_queue import BatchSettings
from ladle.server.http.application import Dispatcher, Handler
from ladle.server.http.client import IDLE_CONNECTIONS_MAX, ClientPool
from ladle.server.http.connection import Connection
from ladle.server.http.server import HttpServer
from ladle.server.http2.first_bytes import FirstBytes
from ladle.server.http2.messages import HTTP2
from ladle.server.http2.server import Http2Connection, Http2Server
from ladle.server.metrics import payload_event_counter
from ladle.server.payload_events import PayloadLogSettings
from ladle.server.payload_log import PayloadLog
from ladle.server.queue_proxy import QueueProxy
from ladle.server.queue_settings import BadSetting, QueueSettings, number
from runtimes.queueproxy.batching import BatchingProxy
from runtimes.queueproxy.dialing import Dialer
from runtimes.queueproxy.http2_proxy import Http2ReverseProxy
from runtimes.queueproxy.readiness import Prober, ReadinessProbe, parse_probe
from runtimes.queueproxy.reverse_proxy import ReverseProxy

_DATA_PORT = 8012
_H2C_PORT = 8013
_ADMIN_PORT = 9090
_USER_PORT = 8080
"""Knative's numbers, inside a pod."""
_BACKLOG = 1024
"""Connections that the kernel holds while the loop is busy, as for every server of ours."""
_LOOPBACK = "127.0.0.1"

log = get_logger("runtimes.queueproxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSettings:
    """Ports, the user's probe, and what the queue-proxy enforces."""

    host: str = "0.0.0.0"  # noqa: S104  # A pod serves on all its addresses; on one machine the node says 127.0.0.1.
    http_port: int = _DATA_PORT
    admin_port: int = _ADMIN_PORT
    user_port: int = _USER_PORT
    h2c: bool = False
    """Whether the container hears HTTP/2 only, by the name of its port."""
    probe: ReadinessProbe
    queue: QueueSettings
    batching: BatchSettings | None = None
    """Whether and how predictions are put together; None for one by one."""
    payload_log: PayloadLogSettings | None = None
    """Where requests and answers are told as events; None for nowhere."""

    @classmethod
    def parse(cls, argv: Sequence[str], env: Mapping[str, str]) -> SidecarSettings:
        """The flags of KServe's agent for its batcher and its logger, and Knative's environment, with Ladle's names for
        ports that the node chose; UserError where one cannot be read."""
        queue = QueueSettings.from_environment(env)
        return cls(
            host=env.get("LADLE_HOST") or "0.0.0.0",  # noqa: S104  # As above.
            http_port=int(number(env, "LADLE_HTTP_PORT", number(env, "QUEUE_SERVING_PORT", _DATA_PORT))),
            admin_port=int(number(env, "LADLE_ADMIN_PORT", _ADMIN_PORT)),
            user_port=int(number(env, "USER_PORT", _USER_PORT)),
            h2c=int(number(env, "QUEUE_SERVING_PORT", _DATA_PORT)) == _H2C_PORT,
            probe=parse_probe(queue.readiness_probe),
            queue=queue,
            batching=_batching(argv),
            payload_log=PayloadLogSettings.parse(argv, env),
        )


def _batching(argv: Sequence[str]) -> BatchSettings | None:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--enable-batcher", action="store_true")
    parser.add_argument("--max-batchsize", type=int, default=0)
    parser.add_argument("--max-latency", type=int, default=0)
    try:
        flags, _ = parser.parse_known_args(argv)  # The agent's other flags are for what it does beside batching.
    except argparse.ArgumentError as error:
        raise BadSetting(str(error)) from None
    if not flags.enable_batcher:
        return None
    return BatchSettings.of_kserve(max_size=flags.max_batchsize, max_latency_ms=flags.max_latency)


class Sidecar:
    """Two servers and the connections to the container."""

    def __init__(self, settings: SidecarSettings, tasks: asyncio.TaskGroup, *, clock: Clock) -> None:
        self._settings = settings
        idle_max = settings.queue.container_concurrency or IDLE_CONNECTIONS_MAX
        self._pool = ClientPool(_LOOPBACK, settings.user_port, tasks, idle_max=idle_max)
        prober = Prober(settings.probe, self._pool, clock)
        dialer = Dialer(clock)
        proxy = ReverseProxy(self._pool, dialer)
        self._http2_proxy = Http2ReverseProxy(_LOOPBACK, settings.user_port, tasks, dialer)
        handler: Handler = proxy
        if settings.batching is not None:
            handler = BatchingProxy(proxy, settings=settings.batching, tasks=tasks, clock=clock)
        events = payload_event_counter()
        self._payload_log: PayloadLog | None = None
        if settings.payload_log is not None:  # Before the batcher, as in KServe's agent: what clients sent and got.
            self._payload_log = PayloadLog(settings.payload_log, events, tasks, clock=clock)
            handler = self._payload_log.around(handler)
        self.queue_proxy = QueueProxy(
            self._follow(handler), prober.ready, tasks=tasks, settings=settings.queue, clock=clock
        )
        self._http = HttpServer(self.queue_proxy, tasks, clock=clock, streams_bodies=True, upgrades=True)
        self._http2 = Http2Server(self.queue_proxy, tasks, clock=clock, limits=self._http.limits)
        self._listener: asyncio.Server | None = None
        self._reporter = StatsReporter(self.queue_proxy.stats, clock=clock, pod=settings.queue.pod)
        admin = AdminHandler(self._reporter, self.queue_proxy.drainer.wait, [events])
        self._admin = HttpServer(Dispatcher(admin, tasks), tasks, clock=clock)
        self.http_port = 0
        self.admin_port = 0

    async def start(self) -> None:
        """Binds; OSError where a port is taken."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accept, settings.host, settings.http_port, backlog=_BACKLOG)
        self.http_port = self._listener.sockets[0].getsockname()[1]
        self.admin_port = await self._admin.listen(settings.host, settings.admin_port)
        log.info("proxying", http_port=self.http_port, admin_port=self.admin_port, user_port=settings.user_port)

    def _follow(self, http1: Handler) -> Handler:
        """The handler that asks the container in the version of HTTP in which the client asks, as Knative's does; but one
        of h2c always in HTTP/2, to which Envoy turns every request in Knative."""
        h2c = self._settings.h2c
        return lambda request: (
            self._http2_proxy(request) if request.version == HTTP2 or (h2c and not request.upgrade) else http1(request)
        )

    def _accept(self) -> asyncio.Protocol:
        return FirstBytes(lambda: Connection(self._http), lambda: Http2Connection(self._http2))

    async def drain(self, timeout_s: float) -> None:
        """Fails probes, waits until nobody sends any more, then until all is answered."""
        self.queue_proxy.drainer.finish()
        await self.queue_proxy.drainer.wait()
        if self._listener is not None:
            self._listener.close()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._http.drain(timeout_s))
            both.create_task(self._http2.drain(timeout_s))
        if self._payload_log is not None:
            await self._payload_log.delivery.drain()

    def close(self) -> None:
        """Ends at once."""
        if self._payload_log is not None:
            self._payload_log.delivery.close()
        self._reporter.close()
        self.queue_proxy.close()
        self._admin.close()
        if self._listener is not None:
            self._listener.close()
        self._http2.close()
        self._http.close()
        self._http2_proxy.close()
        self._pool.close()
