"""Transformers in front of real servers: every protocol on both sides, errors, deadlines, retries, headers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import grpc
import numpy as np
import pytest
import uvloop

from ladle import InferRequest, InvalidInput, Model, Tensor, Transformer
from ladle.errors import StatusError
from ladle.protocol.grpc.schema import message_class
from ladle.protocol.tensor import tensor_of
from ladle.transformer.messages import Prediction
from ladle.transformer.settings import PredictorSettings, Protocol
from tests.ladle.server.serving import Served, served, tensor
from tests.ladle.server.wire import ask
from tests.ladle.transformer.fronts import fronted

DEADLINE_S = 20.0


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """These tests run on the loop that servers run on."""
    return {"uvloop": uvloop.new_event_loop}


class Doubler(Model):
    """The predictor: twice what comes; remembers requests."""

    thread_safe = True

    def __init__(self) -> None:
        super().__init__("m")
        self.requests: list[InferRequest] = []

    def predict(self, request: InferRequest) -> Any:
        self.requests.append(request)
        rows = request.as_array()
        if rows.dtype.kind not in "fi":
            raise InvalidInput("expected numbers")
        request.response_headers["x-from"] = "predictor"
        return rows * 2


class Tenths(Transformer):
    """Sends a tenth, adds one to what comes back."""

    def preprocess(self, request: InferRequest) -> Any:
        return request.as_array() / 10 if request.as_array().dtype.kind in "fi" else request

    def postprocess(self, result: Prediction, request: InferRequest) -> Any:
        request.response_headers["x-seen"] = result.headers.get("x-from", "nothing")
        return result.as_array() + 1


class AsyncTenths(Transformer):
    async def preprocess(self, request: InferRequest) -> Any:
        await asyncio.sleep(0)
        return request.as_array() / 10

    async def postprocess(self, result: Prediction, request: InferRequest) -> Any:
        await asyncio.sleep(0)
        return result.as_array() + 1


def settings(app: Served, protocol: str, **given: Any) -> PredictorSettings:
    port = app.server.grpc_port if protocol == Protocol.GRPC else app.port
    return PredictorSettings(host=f"127.0.0.1:{port}", protocol=Protocol(protocol), **given)


@contextlib.asynccontextmanager
async def pair(
    kind: type[Transformer], protocol: str, predictor: Model | None = None, **given: Any
) -> AsyncIterator[tuple[Served, Model]]:
    """A transformer's server, and the model behind it."""
    model = predictor or Doubler()
    async with served(model, grpc_port=0) as behind:
        transformer = kind("m", settings(behind, protocol, **given))
        async with fronted(transformer) as app:
            yield app, model


PROTOCOLS = [("v1", False), ("v2", False), ("v2", True), ("grpc-v2", False)]
ROWS = [[10.0, 20.0], [30.0, 40.0]]
EXPECTED = [[3.0, 5.0], [7.0, 9.0]]


async def over_grpc(
    app: Served, rows: Any, *, timeout_s: float = DEADLINE_S, **metadata: str
) -> tuple[Any, dict[str, Any]]:
    request = message_class("inference.ModelInferRequest")(model_name="m", id="g1")
    array = np.asarray(rows, dtype="float64")
    item = request.inputs.add(name="x", datatype="FP64", shape=array.shape)
    item.contents.fp64_contents.extend(array.reshape(-1).tolist())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.server.grpc_port}") as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_class("inference.ModelInferResponse").FromString,
        )
        call = stub(request, timeout=timeout_s, metadata=tuple(metadata.items()))
        answer = await call
        return answer, dict(await call.initial_metadata())


class TestProtocols:
    @pytest.mark.parametrize(("protocol", "binary"), PROTOCOLS)
    @pytest.mark.parametrize("kind", [Tenths, AsyncTenths])
    async def test_every_protocol_in_and_out(self, kind: type[Transformer], protocol: str, binary: bool) -> None:
        async with pair(kind, protocol, binary=binary) as (app, model):
            answer = await app.v1("m", {"instances": ROWS})
            assert json.loads(answer.body) == {"predictions": EXPECTED}
            answer = await app.v2("m", {"id": "r1", "inputs": [tensor("x", "FP64", [2, 2], ROWS)]})
            found = json.loads(answer.body)
            assert (found["id"], found["outputs"]) == ("r1", [tensor("output-0", "FP64", [2, 2], [3.0, 5.0, 7.0, 9.0])])
            reply, _ = await over_grpc(app, ROWS)
            assert list(reply.outputs[0].contents.fp64_contents) == [3.0, 5.0, 7.0, 9.0]
        assert len(model.requests) == 3  # type: ignore[attr-defined]  # A batch stays one request.

    async def test_a_request_that_nobody_changes_passes_through(self) -> None:
        async with pair(Transformer, "v2") as (app, model):
            body = {"parameters": {"mode": "x"}, "inputs": [tensor("x", "INT64", [2], [1, 2])]}
            (output,) = json.loads((await app.v2("m", body)).body)["outputs"]
        assert output == tensor("output-0", "INT64", [2], [2, 4])
        (seen,) = model.requests  # type: ignore[attr-defined]
        assert (seen.inputs[0].name, seen.parameters) == ("x", {"mode": "x"})

    @pytest.mark.parametrize("protocol", ["v1", "v2", "grpc-v2"])
    async def test_preprocess_may_return_tensors_mappings_and_bodies(self, protocol: str) -> None:
        forms: list[Any] = [
            {"instances": [[1.0]]},
            {"input-0": np.array([[1.0]])},
            tensor_of("input-0", np.array([[1.0]])),
            [tensor_of("input-0", np.array([[1.0]]))],
            [[1.0]],
        ]

        class Forms(Transformer):
            def preprocess(self, request: InferRequest) -> Any:
                return forms[int(request.as_array()[0])]

        async with pair(Forms, protocol) as (app, model):
            for index in range(len(forms)):
                answer = await app.v1("m", {"instances": [index]})
                assert json.loads(answer.body) == {"predictions": [[2.0]]}, answer.text
        names = {seen.inputs[0].name for seen in model.requests if seen.inputs}  # type: ignore[attr-defined]
        assert names <= {"input-0"}

    async def test_texts_are_bytes(self) -> None:
        class Shout(Model):
            def predict(self, request: InferRequest) -> Any:
                return np.char.upper(request.as_array().astype(str))

        for protocol, binary in PROTOCOLS:
            async with pair(Transformer, protocol, Shout("m"), binary=binary) as (app, _):
                answer = await app.v1("m", {"instances": ["a", "ä"]})
                assert json.loads(answer.body) == {"predictions": ["A", "Ä"]}, protocol

    async def test_half_floats_are_sent_in_binary_form_where_json_cannot_carry_them(self) -> None:
        class Halves(Transformer):
            def preprocess(self, request: InferRequest) -> Tensor:
                return tensor_of("x", request.as_array(), "FP16")

        async with pair(Halves, "v2") as (app, model):
            answer = await app.v1("m", {"instances": [1.5]})
            assert json.loads(answer.body) == {"predictions": [3.0]}
        assert model.requests[0].inputs[0].datatype.name == "FP16"  # type: ignore[attr-defined]


class Refusing(Model):
    """Answers with the status that it is sent."""

    def predict(self, request: InferRequest) -> Any:
        status = int(request.as_array().reshape(-1)[0])
        raise StatusError(status, {"error": f"because {status}"}, {"retry-after": "7"})


class TestErrors:
    @pytest.mark.parametrize("protocol", ["v1", "v2", "grpc-v2"])
    @pytest.mark.parametrize("status", [400, 404, 429, 500, 501, 503, 504])
    async def test_a_refusal_keeps_its_code_and_body(self, protocol: str, status: int) -> None:
        async with pair(Transformer, protocol, Refusing("m")) as (app, _):
            answer = await app.v1("m", {"instances": [status]})
            assert answer.status == status
            assert json.loads(answer.body) == {"error": f"because {status}"}
            if protocol != "grpc-v2":
                assert answer.headers["retry-after"] == "7"

    @pytest.mark.parametrize("protocol", ["v1", "v2", "grpc-v2"])
    async def test_over_grpc_a_refusal_is_the_code_of_the_same_meaning(self, protocol: str) -> None:
        async with pair(Transformer, protocol, Refusing("m")) as (app, _):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await over_grpc(app, [404.0])
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        assert raised.value.details() == "because 404"

    @pytest.mark.parametrize("protocol", ["v1", "grpc-v2"])
    async def test_a_predictor_that_is_not_there_is_a_503_that_names_it(self, protocol: str) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # Taken, and nobody listens.
            host = f"127.0.0.1:{bound.getsockname()[1]}"
            given = PredictorSettings(host=host, protocol=Protocol(protocol), retries=1)
            async with fronted(Transformer("m", given)) as app:
                answer = await app.v1("m", {"instances": [1.0]})
        assert answer.status == 503
        assert f"predictor {host} cannot be reached" in json.loads(answer.body)["error"]

    async def test_without_a_predictor_the_missing_flag_is_named(self) -> None:
        async with fronted(Transformer("m", PredictorSettings())) as app:
            answer = await app.v1("m", {"instances": [1.0]})
        assert answer.status == 501
        assert "--predictor_host is missing" in answer.text

    async def test_what_preprocess_refuses_never_reaches_the_predictor(self) -> None:
        class Strict(Transformer):
            def preprocess(self, request: InferRequest) -> Any:
                raise InvalidInput("no")

        async with pair(Strict, "v1") as (app, model):
            assert (await app.v1("m", {"instances": [1.0]})).status == 400
            assert model.requests == []  # type: ignore[attr-defined]


@dataclass
class Script:
    """What a scripted server saw."""

    port: int = 0
    seen: list[bytes] = field(default_factory=list)
    connections: int = 0


@contextlib.asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[Script]:
    """A server that gives these bytes, one for each request, and ends the connection where they are empty."""
    left, script = list(answers), Script()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                script.seen.append(head + await reader.readexactly(length))
                answer = left.pop(0) if left else b""
                if not answer:
                    break
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()


def response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def through(port: int, **given: Any) -> contextlib.AbstractAsyncContextManager[Served]:
    """A transformer that changes nothing, before a predictor at this port."""
    return fronted(Transformer("m", PredictorSettings(host=f"127.0.0.1:{port}", **given)))


BUSY = response(503, b'{"error":"busy"}')
GOOD = response(200, b'{"predictions":[1]}')


class TestRetries:
    async def ask_through(self, port: int, **given: Any) -> Any:
        async with through(port, **given) as app:
            return await app.v1("m", {"instances": [1.0]})

    async def test_a_503_is_tried_again_on_the_same_connection(self) -> None:
        async with scripted(BUSY, BUSY, GOOD) as script:
            answer = await self.ask_through(script.port, retries=2)
        assert (answer.status, len(script.seen), script.connections) == (200, 3, 1)

    async def test_retries_end(self) -> None:
        async with scripted(BUSY, BUSY, GOOD) as script:
            answer = await self.ask_through(script.port, retries=1)
        assert (answer.status, answer.text, len(script.seen)) == (503, '{"error":"busy"}', 2)

    @pytest.mark.parametrize("answer", [response(500, b"{}"), response(429, b"{}"), b""])
    async def test_nothing_else_is_tried_again(self, answer: bytes) -> None:
        async with scripted(answer, GOOD) as script:
            found = await self.ask_through(script.port, retries=3)
        assert len(script.seen) == 1
        assert found.status == (502 if not answer else int(answer.split()[1]))

    async def test_a_budget_over_all_requests_bounds_retries(self) -> None:
        given: dict[str, Any] = {"retries": 10}
        async with scripted(*[BUSY] * 100) as script:
            transformer = Transformer(
                "m", PredictorSettings(host=f"127.0.0.1:{script.port}", timeout_s=DEADLINE_S, **given)
            )
            async with fronted(transformer) as app:
                await asyncio.gather(*(app.v1("m", {"instances": [1.0]}) for _ in range(10)))
        assert len(script.seen) == 10 + 20

    @pytest.mark.parametrize("answer", [response(302, b""), response(200, b"no json"), b"nonsense\r\n\r\n"])
    async def test_what_is_no_answer_is_a_502(self, answer: bytes) -> None:
        async with scripted(answer) as script:
            assert (await self.ask_through(script.port)).status == 502


class TestDeadlines:
    """A predictor that never answers; every wait ends by the deadline, not by the test's."""

    @contextlib.asynccontextmanager
    async def silent(self) -> AsyncIterator[tuple[int, list[bytes], asyncio.Event]]:
        seen: list[bytes] = []
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                seen.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.read()
            gone.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1], seen, gone
        server.close()

    async def test_too_late_is_a_504_that_names_the_hop_and_ends_the_predictors_work(self) -> None:
        async with self.silent() as (port, _, gone):
            given = PredictorSettings(host=f"127.0.0.1:{port}", timeout_s=1.0)
            async with fronted(Transformer("m", given)) as app:
                answer = await app.v1("m", {"instances": [1.0]})
                async with asyncio.timeout(DEADLINE_S):
                    await gone.wait()
        assert answer.status == 504
        assert f"predictor 127.0.0.1:{port} did not answer within" in answer.text

    async def test_the_clients_time_is_passed_on(self) -> None:
        async with self.silent() as (port, seen, _), through(port) as app:
            answer = await app.v1("m", {"instances": [1.0]}, x_envoy_expected_rq_timeout_ms="1500")
        assert answer.status == 504
        passed = dict(line.split(b": ") for line in seen[0].split(b"\r\n")[1:] if line)
        assert 0 < int(passed[b"x-envoy-expected-rq-timeout-ms"]) <= 1500

    async def test_a_grpc_deadline_reaches_the_predictor(self) -> None:
        async with pair(Transformer, "grpc-v2") as (app, model):
            await over_grpc(app, [1.0], timeout_s=15.0)
        (seen,) = model.requests  # type: ignore[attr-defined]
        assert seen.time_left_s is not None
        assert 0 < seen.time_left_s < 20  # gRPC rounds up; without the client it would be 600.


class TestHeaders:
    PASSED: ClassVar = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
        "x-request-id": "r-1",
        "authorization": "Bearer t",
    }

    @pytest.mark.parametrize("protocol", ["v1", "v2", "grpc-v2"])
    async def test_traces_pass_and_other_headers_stay(self, protocol: str) -> None:
        async with pair(Tenths, protocol) as (app, model):
            body = json.dumps({"instances": [1.0]}).encode()
            answer = await ask(app.port, "POST", "/v1/models/m:predict", body, **{**self.PASSED, "cookie": "secret"})
        assert answer.headers["x-seen"] == "predictor"
        (seen,) = model.requests  # type: ignore[attr-defined]
        assert {name: seen.headers[name] for name in self.PASSED} == self.PASSED
        assert "cookie" not in seen.headers

    async def test_the_host_is_the_predictors_name_behind_a_gateway(self) -> None:
        async with scripted(GOOD) as script:
            given = PredictorSettings(host="iris-predictor.default", gateway=f"127.0.0.1:{script.port}")
            async with fronted(Transformer("m", given)) as app:
                assert (await app.v1("m", {"instances": [1.0]})).status == 200
        assert b"host: iris-predictor.default\r\n" in script.seen[0]

    async def test_one_connection_serves_many_requests(self) -> None:
        async with scripted(*[GOOD] * 5) as script, through(script.port) as app:
            for _ in range(5):
                assert (await app.v1("m", {"instances": [1.0]})).status == 200
        assert (len(script.seen), script.connections) == (5, 1)
