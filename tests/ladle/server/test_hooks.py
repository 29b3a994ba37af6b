"""What a model may define beside `predict`, as clients of V1, V2 and gRPC see it."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import grpc
import numpy as np
import pytest

from ladle import InferRequest, Model
from ladle.errors import StatusError
from ladle.protocol.grpc.schema import message_class
from ladle.protocol.tensor import tensor_of
from ladle.server.batch_queue import BatchSettings
from tests.ladle.server.serving import Served, served, tensor

ROWS = [[1.0, 2.0], [3.0, 4.0]]
V2 = {"inputs": [tensor("x", "FP64", [2, 2], ROWS)]}


class Chain(Model):
    """Adds one, doubles, takes one away: 2x + 1. Explains with what it saw."""

    def preprocess(self, request: InferRequest) -> InferRequest:
        rows = request.as_array() + 1
        return InferRequest(model_name=request.model_name, id=request.id, inputs=(tensor_of("x", rows),))

    def predict(self, request: InferRequest) -> Any:
        return request.as_array() * 2

    def postprocess(self, result: Any, request: InferRequest) -> Any:
        request.response_headers["X-Rows"] = str(len(result))
        return result - 1

    def explain(self, request: InferRequest) -> Any:
        return request.as_array()


class AsyncChain(Chain):
    """The same with an `async` function between two that are not."""

    threads: set[int]

    def load(self) -> None:
        self.threads = set()

    async def predict(self, request: InferRequest) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().predict(request)

    def postprocess(self, result: Any, request: InferRequest) -> Any:
        self.threads.add(threading.get_ident())
        return super().postprocess(result, request)


async def infer_by_grpc(app: Served, name: str) -> tuple[Any, dict[str, Any]]:
    """The answer and its metadata."""
    request = message_class("inference.ModelInferRequest")(model_name=name)
    item = request.inputs.add(name="x", datatype="FP64", shape=[2, 2])
    item.contents.fp64_contents.extend(np.array(ROWS).reshape(-1).tolist())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.server.grpc_port}") as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_class("inference.ModelInferResponse").FromString,
        )
        call = stub(request, timeout=20)
        return await call, dict(await call.initial_metadata())


@pytest.mark.parametrize("kind", [Chain, AsyncChain])
async def test_a_request_goes_through_all_functions_in_order(kind: type[Chain]) -> None:
    async with served(kind("chain"), grpc_port=0) as app:
        answer = await app.v1("chain", {"instances": ROWS})
        assert json.loads(answer.body) == {"predictions": [[3.0, 5.0], [7.0, 9.0]]}
        assert answer.headers["x-rows"] == "2"
        answer = await app.v2("chain", V2)
        assert json.loads(answer.body)["outputs"][0]["data"] == [3.0, 5.0, 7.0, 9.0]
        assert answer.headers["x-rows"] == "2"
        message, metadata = await infer_by_grpc(app, "chain")
        assert list(message.outputs[0].contents.fp64_contents) == [3.0, 5.0, 7.0, 9.0]
        assert metadata["x-rows"] == "2"


async def test_an_explanation_goes_the_same_way() -> None:
    async with served(Chain("chain")) as app:
        answer = await app.post("/v1/models/chain:explain", {"instances": ROWS})
    assert json.loads(answer.body) == {"predictions": [[1.0, 2.0], [3.0, 4.0]]}


async def test_a_slow_function_beside_an_async_one_runs_in_a_thread() -> None:
    model = AsyncChain("chain")
    async with served(model) as app:
        assert (await app.v1("chain", {"instances": ROWS})).status == 200  # The first call: nobody knows its time yet.
    assert model.threads
    assert threading.get_ident() not in model.threads


async def test_a_header_for_a_batch_goes_to_each_of_it() -> None:
    async with served(Chain("chain"), batching=BatchSettings(max_size=2, max_latency_s=5, waits_when_idle=True)) as app:
        answers = await asyncio.gather(*(app.v1("chain", {"instances": [row]}) for row in ROWS))
    assert [answer.headers["x-rows"] for answer in answers] == ["2", "2"]


class Refusing(Model):
    def predict(self, request: InferRequest) -> Any:
        raise StatusError(429, {"detail": "enough for today"}, {"retry-after": "30"})


async def test_a_model_chooses_the_status() -> None:
    async with served(Refusing("busy"), grpc_port=0) as app:
        for answer in (await app.v1("busy", {"instances": ROWS}), await app.v2("busy", V2)):
            assert (answer.status, answer.headers["retry-after"]) == (429, "30")
            assert json.loads(answer.body) == {"detail": "enough for today"}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await infer_by_grpc(app, "busy")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "enough for today" in str(caught.value.details())


@pytest.mark.parametrize("status", [200, 399, 600, 0])
def test_a_status_that_is_no_error_is_none(status: int) -> None:
    with pytest.raises(ValueError, match=r"must be in \[400, 599\]"):
        StatusError(status, "")


class Unfit(Model):
    def predict(self, request: InferRequest) -> Any:
        raise StatusError(400, *request.instances) if len(request.instances) > 1 else StatusError(400, object())


@pytest.mark.parametrize("instances", [["no", {"x": "a\r\nb"}], [0]])
async def test_a_chosen_answer_that_cannot_be_sent_is_a_failure(instances: list[Any]) -> None:
    async with served(Unfit("m")) as app:
        assert (await app.v1("m", {"instances": instances})).status == 500


class Splitting(Model):
    def predict(self, request: InferRequest) -> Any:
        request.response_headers[str(request.instances[0])] = str(request.instances[1])
        return [1]


@pytest.mark.parametrize(("name", "value"), [("x", "a\r\nset-cookie: b"), ("x\r\ny", "a"), ("x y", "a"), ("", "a")])
async def test_a_header_cannot_split_an_answer(name: str, value: str) -> None:
    async with served(Splitting("m")) as app:
        answer = await app.v1("m", {"instances": [name, value]})
    assert answer.status == 500
    assert "is not a header" in json.loads(answer.body)["error"]
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Content-Type", "connection"])
async def test_the_frame_of_an_answer_stays_the_servers(name: str) -> None:
    async with served(Splitting("m")) as app:
        answer = await app.v1("m", {"instances": [name, "7"]})
    assert (answer.status, answer.body) == (200, b'{"predictions":[1]}')
    assert answer.headers["content-type"] == "application/json"


class Moody(Model):
    well = True

    def healthy(self) -> bool:
        return self.well

    def predict(self, request: InferRequest) -> Any:
        return [1]


async def test_a_model_that_is_not_healthy_answers_nothing_and_says_so() -> None:
    model = Moody("m")
    async with served(model) as app:
        assert (await app.get("/v2/health/ready")).status == 200
        model.well = False
        assert (await app.get("/v2/health/ready")).status == 503
        assert (await app.get("/v1/models/m")).status == 503
        assert (await app.v1("m", {"instances": [1]})).status == 503
        model.well = True
        assert (await app.v1("m", {"instances": [1]})).status == 200


class Picture(Model):
    def predict(self, request: InferRequest) -> Any:
        request.response_headers["Content-Type"] = "image/png"
        return b"\x89PNG"


async def test_bytes_are_what_the_model_calls_them() -> None:
    async with served(Picture("m")) as app:
        answer = await app.v1("m", {"instances": [1]})
    assert (answer.body, answer.headers["content-type"]) == (b"\x89PNG", "image/png")
