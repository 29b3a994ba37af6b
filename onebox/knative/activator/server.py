"""The activator's server for both versions of HTTP on one port: probes are answered here, everything else goes to the
forwarder; and its graceful end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from controller.base.clock import Clock
from controller.base.logging import get_logger
from ladle.server.http2.first_bytes import FirstBytes
from ladle.server.http2.server import Http2Connection, Http2Server
from onebox.knative.activator.carriers import Carry, Forwarded, Http1Carrier
from onebox.knative.activator.clients import ClientConnection, Exchange
from onebox.knative.activator.forward import Forwarder
from onebox.knative.activator.heads import Header, RequestHead
from onebox.knative.activator.http2 import Http2Application, Http2Carrier, http_limits
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.load import LoadLink

_NAME: Final = "activator"
_BACKLOG: Final = 4096
"""Connections that the kernel holds while the loop is busy; Linux' ceiling (net.core.somaxconn)."""

log = get_logger(__name__)

Reply = tuple[int, str, tuple[Header, ...]]


def answer_probe(head: RequestHead, *, unhealthy: str = "") -> Reply | None:
    """The answer to a request that asks about the activator itself, or None for any other (spec/knative.md 4.1).

    `unhealthy`: why this activator should get no requests; empty where it should.
    """
    if head.user_agent.startswith("kube-probe/"):
        return (500, f"{unhealthy}\n", ()) if unhealthy else (200, "", ())
    if not head.probe:
        return None
    if head.probe == "probe":
        if not head.probe_hash:
            return 400, 'a probe request must contain a non-empty "K-Network-Hash" header\n', ()
        return 200, "", ((b"k-network-hash", head.probe_hash.encode("latin-1")),)
    if head.probe != _NAME:
        return 400, f'unexpected probe header value: "{head.probe}"\n', ()
    return 200, _NAME, ()


class ActivatorServer:
    """Listens, and begins exchanges; implements clients.Server and http2.Beginner."""

    def __init__(
        self,
        forwarder: Forwarder,
        load: LoadLink,
        tasks: asyncio.TaskGroup,
        *,
        http1: Http1Carrier,
        http2: Http2Carrier,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.draining = False
        self._forwarder = forwarder
        self._load = load
        self._tasks = tasks
        self._http1 = http1
        self._http2 = Http2Server(
            Http2Application(self, http2, limits=limits, clock=clock),
            tasks,
            clock=clock,
            limits=http_limits(limits),
            stream_window_bytes=limits.body_held_bytes,
        )
        self._connections: set[ClientConnection] = set()
        self._listener: asyncio.Server | None = None
        self._empty = asyncio.Event()

    @property
    def connections(self) -> tuple[ClientConnection, ...]:
        return tuple(self._connections)

    async def listen(self, host: str, port: int) -> int:
        """Accepts connections; returns the port, which is chosen where 0 was asked for."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accept, host, port, backlog=_BACKLOG)
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    def _accept(self) -> asyncio.Protocol:
        return FirstBytes(lambda: ClientConnection(self), lambda: Http2Connection(self._http2))

    def receive(self, exchange: Exchange) -> None:
        self.begin(exchange, partial(self._http1.carry, exchange))

    def begin(self, exchange: Forwarded, carry: Carry) -> None:
        unhealthy = "shutting down" if self.draining else "" if self._load.up else "no link to the autoscaler"
        reply = answer_probe(exchange.head, unhealthy=unhealthy)
        if reply is not None:
            status, text, headers = reply
            exchange.reply(status, text, headers)
        else:
            exchange.task = self._tasks.create_task(self._forwarder.serve(exchange, carry))

    def connected(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        self._empty.clear()

    def disconnected(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def sweep(self) -> None:
        """Ends connections that are slow or idle; called about once a second."""
        now_s = self.clock.monotonic_s()
        for connection in self.connections:
            connection.sweep(now_s)

    async def drain(self) -> None:
        """Stops accepting, and waits until the requests that are here are answered, but not for ever."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        self.sweep()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._drain_http1())
            both.create_task(self._drain_http2())

    async def _drain_http1(self) -> None:
        if not self._connections:
            return
        try:
            async with asyncio.timeout(self.limits.drain_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("requests broken off", connections=len(self._connections))
            for connection in self.connections:
                connection.abort()

    async def _drain_http2(self) -> None:
        if not await self._http2.drain(self.limits.drain_s):
            log.warning("requests over HTTP/2 broken off", connections=len(self._http2.connections))
            self._http2.close()
