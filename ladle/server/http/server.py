"""A listening server: its connections, the one timer that looks after all of them, and its graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate

from ladle.clock import Clock
from ladle.log import get_logger
from ladle.server.http.application import Application
from ladle.server.http.connection import Connection
from ladle.server.http.limits import HttpLimits
from ladle.server.http.messages import Request
from ladle.server.http2.first_bytes import FirstBytes

SWEEP_PERIOD_S = 1.0
"""How often slow and idle connections are looked for. Limits are many seconds, so that one more does not matter."""
_BACKLOG = 1024
"""Connections that the kernel holds while the loop is busy; its own ceiling is net.core.somaxconn (4096)."""

log = get_logger(__name__)


class HttpServer:
    """HTTP/1.1 for one application. Lives in a task group, which its tasks belong to."""

    def __init__(
        self,
        application: Application,
        tasks: asyncio.TaskGroup,
        *,
        clock: Clock,
        limits: HttpLimits | None = None,
        streams_bodies: bool = False,
        upgrades: bool = False,
    ) -> None:
        self.application = application
        self.tasks = tasks
        self.clock = clock
        self.limits = limits or HttpLimits()
        self.streams_bodies = streams_bodies
        """Whether requests are handed over at their headers, for the application to read the body as it comes."""
        self.upgrades = upgrades
        """Whether requests for another protocol are handed over as such; else the wish is ignored."""
        self.loop = asyncio.get_running_loop()
        self.draining = False
        """Whether every answer closes its connection."""
        self.date_header = b""
        self.port = 0
        """Where it listens, the last one if it listens at several."""
        self._connections: set[Connection] = set()
        self._undecided: set[FirstBytes] = set()
        """Connections on which nothing was said yet, where both versions of HTTP are spoken."""
        self._listeners: list[asyncio.Server] = []
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._quiet = asyncio.Event()
        self._sweep()

    async def listen(
        self, host: str, port: int, *, shared: bool = False, others: Callable[[], asyncio.Protocol] | None = None
    ) -> int:
        """Accepts connections; returns the port, which is chosen where 0 was asked for.

        `shared`: with other processes that listen there too, each of which gets a part of the connections. `others` makes
        the protocol of connections that begin as HTTP/2; without it, that is refused as everything that is not HTTP/1.1.
        """

        def accept() -> asyncio.Protocol:
            return Connection(self) if others is None else FirstBytes(lambda: Connection(self), others, self._undecided)

        listener = await self.loop.create_server(accept, host, port, backlog=_BACKLOG, reuse_port=shared or None)
        self._listeners.append(listener)
        self.port = listener.sockets[0].getsockname()[1]
        return self.port

    @property
    def connections(self) -> frozenset[Connection]:
        """Those that are open."""
        return frozenset(self._connections)

    async def listen_on(self, sock: socket.socket) -> None:
        """Accepts connections on a socket that is bound already."""
        self._listeners.append(await self.loop.create_server(lambda: Connection(self), sock=sock, backlog=_BACKLOG))

    async def drain(self, timeout_s: float) -> bool:
        """Stops accepting and waits until what has begun is answered; False where that took longer than `timeout_s`."""
        self.draining = True
        self._stop_listening()
        for connection in list(self._connections):
            connection.close_if_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._connections:
                    self._quiet.clear()
                    await self._quiet.wait()
        return not self._connections

    def close(self) -> None:
        """Ends at once, whatever is being answered."""
        self.draining = True
        self._stop_listening()
        for connection in list(self._connections):
            connection.abort()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        for undecided in list(self._undecided):
            undecided.abort()

    def connected(self, connection: Connection) -> bool:
        """Takes note of a new connection; False where there are too many."""
        if len(self._connections) + len(self._undecided) >= self.limits.connections_max:
            return False
        self._connections.add(connection)
        return True

    def disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._quiet.set()

    def log_broken_stream(self, request: Request, error: Exception) -> None:
        log.warning("stream broke off", path=request.path, error=repr(error))

    def _sweep(self) -> None:
        self.date_header = f"date: {formatdate(self.clock.wall_s(), usegmt=True)}\r\n".encode("ascii")
        now_s = self.clock.monotonic_s()
        for connection in list(self._connections):
            if self.draining:
                connection.close_if_idle()
            connection.sweep(now_s)
        self._sweep_timer = self.loop.call_later(SWEEP_PERIOD_S, self._sweep)


@contextlib.asynccontextmanager
async def serving(server: HttpServer) -> AsyncIterator[HttpServer]:
    """The server while the block runs; closed, with all its connections, after it."""
    try:
        yield server
    finally:
        server.close()
