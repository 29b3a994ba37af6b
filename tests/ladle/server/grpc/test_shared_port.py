"""REST and gRPC on one port, as in a pod of Knative's, to which all requests come at one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from ladle.server.model_server import ModelServer, running
from ladle.server.options import ServerOptions
from tests.ladle.server.models import EchoModel
from tests.ladle.server.wire import ask

LIVE, INFER = "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ModelInfer"
LIVE_ANSWER = b"\x08\x01"
"""`live: true`, the first field."""
OPTIONS = ServerOptions(host="127.0.0.1", http_port=0, grpc_port=0, grpc_port_shared=True)
DEADLINE_S = 30.0


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with running([EchoModel("echo")], OPTIONS) as made:
        assert await made.load()
        yield made


async def live(port: int) -> bytes:
    """The answer to a call of its own connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        answer: bytes = await channel.unary_unary(LIVE)(b"", timeout=DEADLINE_S, wait_for_ready=True)
        return answer


async def test_both_are_answered_side_by_side(server: ModelServer) -> None:
    assert server.grpc_port != server.http_port
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(live(server.grpc_port)) for _ in range(5)]
        asks = [group.create_task(ask(server.grpc_port, "GET", "/v2/models/echo", None)) for _ in range(5)]
    assert [call.result() for call in calls] == [LIVE_ANSWER] * 5
    assert {asked.result().status for asked in asks} == {200}


async def test_what_is_larger_than_every_buffer_passes(server: ModelServer) -> None:
    """The message is no valid request, which its whole arrival is needed to say."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(INFER)(b"\x0a" + bytes(7_000_000), timeout=DEADLINE_S)
        assert caught.value.code() != grpc.StatusCode.UNAVAILABLE
        assert await live(server.grpc_port) == LIVE_ANSWER


async def test_probes_of_knative_are_answered_there_too(server: ModelServer) -> None:
    headers = {"user-agent": "Knative-Activator-Probe", "k-network-probe": "queue"}
    answer = await ask(server.grpc_port, "GET", "/healthz", None, **headers)
    assert (answer.status, answer.body) == (200, b"queue")


async def test_a_connection_that_says_nothing_hurts_nobody(server: ModelServer) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.grpc_port)
    assert await live(server.grpc_port) == LIVE_ANSWER
    writer.close()
    await writer.wait_closed()


def test_the_node_says_so() -> None:
    options = ServerOptions.parse(
        [], {"LADLE_HTTP_PORT": "1", "LADLE_GRPC_PORT": "2", "LADLE_GRPC_PORT_SHARED": "true"}
    )
    assert (options.grpc_port, options.grpc_port_shared) == (2, True)
    assert not ServerOptions.parse([], {"LADLE_HTTP_PORT": "1", "LADLE_GRPC_PORT": "2"}).grpc_port_shared
