"""Calls of gRPC that share a batch: each gets its own rows, id and error, and one that leaves harms no other."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.errors import InvalidInput
from ladle.protocol.grpc.schema import message_class
from ladle.protocol.messages import InferRequest
from ladle.server.batch_queue import BatchSettings
from ladle.server.model import Model
from tests.ladle.server.serving import Served, served
from tests.waiting import eventually

DEADLINE_S = 60


class Doubler(Model):
    """Doubles; remembers the batches, and refuses rows with a negative number."""

    def __init__(self) -> None:
        super().__init__("m")
        self.saw: list[list[list[float]]] = []

    def predict(self, request: InferRequest) -> Any:
        rows = request.as_array()
        self.saw.append(rows.tolist())
        if (rows < 0).any():
            raise InvalidInput("a negative number")
        return {"double": rows * 2}


def filled(rows: int) -> BatchSettings:
    return BatchSettings(max_size=rows, max_latency_s=60.0, waits_when_idle=True)


def ask(channel: grpc.aio.Channel, value: float, datatype: str = "FP32") -> Any:
    """A call with one row."""
    request = message_class("inference.ModelInferRequest")(model_name="m", id=str(value))
    item = request.inputs.add(name="x", datatype=datatype, shape=[1, 1])
    (item.contents.fp32_contents if datatype == "FP32" else item.contents.fp64_contents).append(value)
    stub = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=type(request).SerializeToString,
        response_deserializer=message_class("inference.ModelInferResponse").FromString,
    )
    return stub(request, timeout=DEADLINE_S)


def channel_to(app: Served) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{app.server.grpc_port}")


def value_of(answer: Any) -> float:
    if answer.raw_output_contents:
        return float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])
    return float(answer.outputs[0].contents.fp32_contents[0])


async def test_each_gets_its_own_row_and_id() -> None:
    model = Doubler()
    async with served(model, batching=filled(8), grpc_port=0) as app, channel_to(app) as channel:
        answers = await asyncio.gather(*(ask(channel, float(number)) for number in range(8)))
    assert [(answer.id, value_of(answer)) for answer in answers] == [(f"{n}.0", 2.0 * n) for n in range(8)]
    assert [len(batch) for batch in model.saw] == [8]


async def test_an_error_is_that_of_its_own_call() -> None:
    async with served(Doubler(), batching=filled(2), grpc_port=0) as app, channel_to(app) as channel:
        good, bad = ask(channel, 1.0), ask(channel, -1.0)
        assert value_of(await good) == 2.0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bad
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "a negative number")


async def test_other_datatypes_are_another_batch() -> None:
    model = Doubler()
    async with served(model, batching=filled(2), grpc_port=0) as app, channel_to(app) as channel:
        calls = [ask(channel, float(n), datatype) for n in range(2) for datatype in ("FP32", "FP64")]
        await asyncio.gather(*calls)
    assert [len(batch) for batch in model.saw] == [2, 2]


async def test_one_that_cancels_harms_no_other() -> None:
    model = Doubler()
    async with served(model, batching=filled(3), grpc_port=0) as app, channel_to(app) as channel:
        stats = app.server.queue_proxy.stats

        async def inside(count: int) -> bool:
            return bool(stats.concurrency == count)

        first, leaver = ask(channel, 1.0), ask(channel, 2.0)
        await eventually("both wait", lambda: inside(2))
        leaver.cancel()
        await eventually("one left", lambda: inside(1))
        others = [ask(channel, 3.0), ask(channel, 4.0)]
        assert [value_of(await call) for call in (first, *others)] == [2.0, 6.0, 8.0]
    assert sorted(row for batch in model.saw for (row,) in batch) == [1.0, 3.0, 4.0]
