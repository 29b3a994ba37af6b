"""The gRPC server of a model server: a port, three services, a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import grpc

from ladle.clock import Clock
from ladle.server.data_plane import DataPlane
from ladle.server.grpc.health import HealthService
from ladle.server.grpc.inference import InferenceService
from ladle.server.grpc.inside import CallsInside
from ladle.server.grpc.reflection import reflection_handlers
from ladle.server.http2.splice import Connect
from ladle.server.queue_proxy import QueueProxy

_LOOPBACK = "127.0.0.1"
_FLUSH_S = 1.0
"""How long a call may take to get to its handler, and an answer to be sent. A guess. At the end, streams of health and
reflection are cut, and with them what the core has left without an answer."""


class GrpcServer:
    """Serves a data plane behind a queue-proxy."""

    def __init__(
        self,
        data_plane: DataPlane,
        queue_proxy: QueueProxy,
        *,
        clock: Clock,
        message_bytes_max: int,
        shared: bool = False,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """`shared`: the port is shared with other processes, each of which gets a part of the connections."""
        limits = [
            ("grpc.max_send_message_length", message_bytes_max),
            ("grpc.max_receive_message_length", message_bytes_max),
            # Unasked, two servers on one port would each get half of the calls, and nobody a word.
            ("grpc.so_reuseport", int(shared)),
        ]
        self._server = grpc.aio.server(options=limits, interceptors=list(interceptors))
        self._inside = CallsInside()
        health = HealthService(lambda: data_plane.ready() and not queue_proxy.drainer.draining, self._inside)
        inference = InferenceService(data_plane, queue_proxy, clock=clock, inside=self._inside)
        self._server.add_generic_rpc_handlers([inference.handlers(), health.handlers(), *reflection_handlers()])

    async def listen(self, host: str, port: int) -> int:
        """Accepts calls; returns the port, which is chosen where 0 was asked for. OSError where it is taken."""
        try:
            bound: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"gRPC port {port}: {error}") from None
        await self._server.start()
        return bound

    async def listen_inside(self) -> Connect:
        """Accepts calls on a port of loopback that nobody is told; returns how to connect to it."""
        port = await self.listen(_LOOPBACK, 0)
        loop = asyncio.get_running_loop()
        return lambda protocol: loop.create_connection(protocol, _LOOPBACK, port)

    async def drain(self, timeout_s: float) -> None:
        """Returns when no call is being answered, at most `timeout_s` later; then nothing listens any more.

        Calls that come meanwhile are answered. A server that stops while others are answered does worse by them: gRPC's core
        leaves one that comes in that moment without an answer until the stop's grace is over, or says CANCELLED, which no
        client sends again (grpcio 1.85: 8 and 358 of 600, measured 2026-11-21).
        """
        async with asyncio.TaskGroup() as tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._inside.none()
                    stopping = tasks.create_task(self._server.stop(timeout_s))
                    await asyncio.wait({stopping}, timeout=_FLUSH_S)
                    await self._inside.none()  # One that came in just before may take its time.
            await self._server.stop(_FLUSH_S)

    async def close(self) -> None:
        """Ends at once."""
        await self._server.stop(None)
