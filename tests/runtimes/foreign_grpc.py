"""A gRPC server that is not ours, with every kind of call, and a client for it. Messages are bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ladle.protocol.grpc.schema import HEALTH_SERVICE, message_class
from tests.runtimes.foreign import sidecar

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.max_send_message_length", MESSAGE_BYTES_MAX)]
DEADLINE_S = 30.0
_HealthCheckRequest = message_class("grpc.health.v1.HealthCheckRequest")
_HealthCheckResponse = message_class("grpc.health.v1.HealthCheckResponse")


class ForeignGrpc:
    """What the server saw and did."""

    def __init__(self) -> None:
        self.server = grpc.aio.server(options=OPTIONS)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.metadata: list[dict[str, Any]] = []
        self.inside = 0
        self.sent = 0
        self.release = asyncio.Event()
        self.health: dict[str, bool] = {}
        """By service, whether it is serving; others are not known."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        handlers = {
            "Echo": unary(self.echo),
            "Fail": unary(self.fail),
            "Wait": unary(self.wait),
            "Count": stream(self.count),
            "Flood": stream(self.flood),
            "Begin": stream(self.begin),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Foreign", handlers),))
        codec = (_HealthCheckRequest.FromString, _HealthCheckResponse.SerializeToString)
        check = grpc.method_handlers_generic_handler(HEALTH_SERVICE, {"Check": unary(self.check, *codec)})
        self.server.add_generic_rpc_handlers((check,))

    async def check(self, request: Any, context: Any) -> Any:
        if request.service not in self.health:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _HealthCheckResponse(status="SERVING" if self.health[request.service] else "NOT_SERVING")

    async def echo(self, message: bytes, context: Any) -> bytes:
        self.metadata.append(dict(context.invocation_metadata()))
        await context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "2"),))
        return message

    async def fail(self, message: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-trailing", "2"),))
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 %, ä")
        raise AssertionError("abort raises")

    async def wait(self, message: bytes, context: Any) -> bytes:
        self.inside += 1
        try:
            await self.release.wait()
        finally:
            self.inside -= 1
        return message

    async def count(self, message: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(message)):
            yield b"%d" % number

    async def flood(self, message: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(message)):
            yield bytes(256 * 1024)
            self.sent += 1

    async def begin(self, message: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"begun"
        await self.wait(message, context)
        yield b"ended"

    async def join(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([message async for message in messages])

    async def talk(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            yield b"you said " + message


@contextlib.asynccontextmanager
async def foreign_grpc() -> AsyncIterator[ForeignGrpc]:
    """The server on a port."""
    foreign = ForeignGrpc()
    await foreign.server.start()
    try:
        yield foreign
    finally:
        foreign.release.set()
        await foreign.server.stop(None)


@contextlib.asynccontextmanager
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    """A client's channel, which shares no connection with another one's."""
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    ) as made:
        yield made


@contextlib.asynccontextmanager
async def behind_sidecar(**queue: Any) -> AsyncIterator[tuple[ForeignGrpc, Any, grpc.aio.Channel]]:
    """The server, the sidecar in front of it, and a client of the sidecar."""
    async with foreign_grpc() as foreign, sidecar(foreign.port, **queue) as proxy, channel(proxy.http_port) as client:
        yield foreign, proxy, client


def method(name: str) -> str:
    return f"/t.Foreign/{name}"
