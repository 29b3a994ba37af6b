"""gRPC: the protocol's methods, raw and typed tensors, codes, the queue-proxy, health and reflection."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from ladle.clock import SystemClock
from ladle.protocol.datatypes import DATATYPES
from ladle.protocol.grpc.schema import FILES, message_class
from ladle.server.model import Model
from ladle.server.model_server import ModelServer, running
from ladle.server.options import ServerOptions
from ladle.server.queue_settings import QueueSettings
from tests.ladle.server.models import (
    AsyncModel,
    EchoModel,
    GateModel,
    LoadModel,
    SumModel,
    TwoOutputsModel,
    failing_models,
)
from tests.waiting import eventually

DEADLINE_S = 20.0
Infer = message_class("inference.ModelInferRequest")


class Client:
    """Calls by method name."""

    def __init__(self, server: ModelServer, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.channel = channel

    def call(self, method: str, request: Any = None, **fields: Any) -> Awaitable[Any]:
        request_class, response = (message_class(f"inference.{method}{end}") for end in ("Request", "Response"))
        stub = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response.FromString,
        )
        answer: Awaitable[Any] = stub(request or request_class(**fields), timeout=DEADLINE_S)
        return answer

    async def refused(self, call: Awaitable[Any]) -> tuple[str, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return caught.value.code().name, caught.value.details() or ""


@contextlib.asynccontextmanager
async def client(*models: Model, load: bool = True, **queue: Any) -> AsyncIterator[Client]:
    options = ServerOptions(host="127.0.0.1", http_port=0, grpc_port=0, queue=QueueSettings(**queue))
    async with running(models, options) as server:
        if load:
            assert await server.load()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            yield Client(server, channel)


@pytest.fixture
async def app() -> AsyncIterator[Client]:
    models = [SumModel("sum"), EchoModel("echo"), TwoOutputsModel("two"), AsyncModel("async"), *failing_models()]
    async with client(*models) as found:
        yield found


def typed(model: str, datatype: str, shape: list[int], **contents: Any) -> Any:
    request = Infer(model_name=model, id="7")
    item = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(item.contents, name).extend(values)
    return request


def raw(model: str, datatype: str, shape: list[int], data: bytes) -> Any:
    request = Infer(model_name=model)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    request.raw_input_contents.append(data)
    return request


ROWS = {"datatype": "FP32", "shape": [2, 2], "fp32_contents": [1, 2, 3, 4]}


class TestInference:
    async def test_typed_contents_in_and_out(self, app: Client) -> None:
        answer = await app.call("ModelInfer", typed("sum", **ROWS))
        assert (answer.model_name, answer.id) == ("sum", "7")
        (output,) = answer.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("output-0", "FP32", [2])
        assert list(output.contents.fp32_contents) == [3, 7]
        assert not answer.raw_output_contents

    async def test_raw_contents_in_and_out(self, app: Client) -> None:
        answer = await app.call("ModelInfer", raw("sum", "FP32", [2, 2], struct.pack("<4f", 1, 2, 3, 4)))
        assert struct.unpack("<2f", answer.raw_output_contents[0]) == (3, 7)
        assert not answer.outputs[0].HasField("contents")
        assert len(answer.id) == 36

    @pytest.mark.parametrize(
        ("datatype", "field", "values"),
        [
            ("BOOL", "bool_contents", [True, False]),
            *((name, "int_contents", [-1, 2]) for name in ("INT8", "INT16", "INT32")),
            ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
            *((name, "uint_contents", [0, 255]) for name in ("UINT8", "UINT16", "UINT32")),
            ("UINT64", "uint64_contents", [0, 2**64 - 1]),
            ("FP32", "fp32_contents", [0.5, -1.5]),
            ("FP64", "fp64_contents", [0.1, -1e300]),
            ("BYTES", "bytes_contents", [b"a\xff", b""]),
        ],
    )
    async def test_every_datatype_comes_back(self, app: Client, datatype: str, field: str, values: list[Any]) -> None:
        answer = await app.call("ModelInfer", typed("echo", datatype, [2], **{field: values}))
        assert answer.outputs[0].datatype == datatype
        assert list(getattr(answer.outputs[0].contents, field)) == values

    @pytest.mark.parametrize("datatype", ["FP16", "BF16"])
    async def test_half_floats_travel_raw(self, app: Client, datatype: str) -> None:
        answer = await app.call("ModelInfer", raw("echo", datatype, [2], b"\x00\x3c\x80\x3f"))
        assert answer.raw_output_contents[0] == b"\x00\x3c\x80\x3f"

    async def test_parameters_and_requested_outputs(self, app: Client) -> None:
        request = typed("two", **ROWS)
        request.outputs.add(name="score")
        for name, value in (("b", {"bool_param": True}), ("s", {"string_param": "x"}), ("d", {"double_param": 0.5})):
            request.parameters[name].MergeFrom(message_class("inference.InferParameter")(**value))
        answer = await app.call("ModelInfer", request)
        assert [output.name for output in answer.outputs] == ["score"]

    async def test_an_asynchronous_model(self, app: Client) -> None:
        answer = await app.call("ModelInfer", typed("async", **ROWS))
        assert list(answer.outputs[0].contents.fp32_contents) == [2, 4, 6, 8]

    async def test_it_counts_in_the_metrics(self, app: Client) -> None:
        await app.call("ModelInfer", typed("sum", **ROWS))
        await app.refused(app.call("ModelInfer", typed("bug", **ROWS)))
        assert app.server.metrics.requests.value("sum", "grpc", "OK") == 1
        assert app.server.metrics.requests.value("bug", "grpc", "INTERNAL") == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_", "code", "text"),
        [
            (typed("none", **ROWS), "NOT_FOUND", "Model with name none does not exist."),
            (
                typed("sum", "FP32", [3], fp32_contents=[1]),
                "INVALID_ARGUMENT",
                "fp32_contents has 1 elements, expected",
            ),
            (typed("sum", "FP32", [1], fp64_contents=[1]), "INVALID_ARGUMENT", "fp32_contents has 0 elements"),
            (typed("sum", "FP32", [-1], fp32_contents=[1]), "INVALID_ARGUMENT", "every dimension must be in"),
            (typed("sum", "INT8", [1], int_contents=[300]), "INVALID_ARGUMENT", "contents hold values outside INT8"),
            (typed("sum", "FP16", [1]), "INVALID_ARGUMENT", "send it in raw_input_contents"),
            (typed("sum", "FP33", [1]), "INVALID_ARGUMENT", "datatype 'FP33' is unknown"),
            (typed("sum", "BYTES", [2], bytes_contents=[b"a"]), "INVALID_ARGUMENT", "expected 2 elements"),
            (raw("sum", "FP32", [1], b"\0" * 3), "INVALID_ARGUMENT", "expected 4 bytes"),
            (typed("inference", **ROWS), "INVALID_ARGUMENT", "the GPU is on fire"),
            (typed("missing", **ROWS), "UNIMPLEMENTED", "not yet"),
            (typed("bug", **ROWS), "INTERNAL", "Internal server error"),
        ],
    )
    async def test_each_error_has_its_code(self, app: Client, request_: Any, code: str, text: str) -> None:
        found, details = await app.refused(app.call("ModelInfer", request_))
        assert found == code
        assert text in details

    async def test_raw_contents_must_match_the_inputs(self, app: Client) -> None:
        request = raw("sum", "FP32", [1], b"\0" * 4)
        request.raw_input_contents.append(b"")
        assert "2 entries, expected one for each of 1" in (await app.refused(app.call("ModelInfer", request)))[1]
        request = raw("sum", "FP32", [1], b"\0" * 4)
        request.inputs[0].contents.fp32_contents.append(1)
        assert "has contents although raw" in (await app.refused(app.call("ModelInfer", request)))[1]

    async def test_versions_are_not_implemented(self, app: Client) -> None:
        request = typed("sum", **ROWS)
        request.model_version = "2"
        assert (await app.refused(app.call("ModelInfer", request)))[0] == "UNIMPLEMENTED"

    async def test_a_message_past_the_limit_is_refused(self, app: Client) -> None:
        request = raw("sum", "UINT8", [9 * 2**20], bytes(9 * 2**20))
        assert (await app.refused(app.call("ModelInfer", request)))[0] == "RESOURCE_EXHAUSTED"


class TestStatus:
    async def test_live_ready_and_metadata(self, app: Client) -> None:
        assert (await app.call("ServerLive")).live
        assert (await app.call("ServerReady")).ready
        assert (await app.call("ModelReady", name="sum")).ready
        assert (await app.call("ServerMetadata")).name == "ladle"
        metadata = await app.call("ModelMetadata", name="sum")
        assert (metadata.platform, metadata.inputs[0].name, list(metadata.inputs[0].shape)) == (
            "test",
            "input-0",
            [-1, -1],
        )

    async def test_configuration_statistics_and_index(self, app: Client) -> None:
        await app.call("ModelInfer", typed("sum", **ROWS))
        config = (await app.call("ModelConfig", name="sum")).config
        assert (config.name, config.input[0].data_type, config.backend) == ("sum", 12, "test")
        (statistics,) = (await app.call("ModelStatistics", name="sum")).model_stats
        assert (statistics.inference_count, statistics.inference_stats.success.count) == (1, 1)
        assert statistics.inference_stats.compute_infer.ns > 0
        assert len((await app.call("ModelStatistics")).model_stats) == 7
        assert {entry.state for entry in (await app.call("RepositoryIndex", ready=True)).models} == {"READY"}

    @pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
    async def test_an_unknown_model_is_not_found(self, app: Client, method: str) -> None:
        assert (await app.refused(app.call(method, name="none")))[0] == "NOT_FOUND"

    @pytest.mark.parametrize("field", ["model_name", "repository_name"])
    async def test_load_and_unload_as_triton_and_as_kserve_ask(self, field: str) -> None:
        model = LoadModel()
        model.release.set()
        async with client(model) as app:
            unloaded = await app.call("RepositoryModelUnload", **{field: "load"})
            assert (unloaded.model_name, unloaded.isUnloaded) == ("load", True)
            assert not (await app.call("ModelReady", name="load")).ready
            assert (await app.refused(app.call("ModelInfer", typed("load", **ROWS))))[0] == "UNAVAILABLE"
            assert (await app.call("RepositoryModelLoad", **{field: "load"})).isLoaded
            assert (await app.call("ModelReady", name="load")).ready


class TestQueueProxy:
    async def test_overload_is_unavailable_in_knatives_words(self) -> None:
        model = GateModel()
        async with client(model, container_concurrency=1) as app:
            request = typed("gate", **ROWS)
            calls = [asyncio.ensure_future(app.call("ModelInfer", request)) for _ in range(12)]
            await eventually("one is refused", lambda: some_done(calls))
            model.release.set()
            await asyncio.wait(calls)
            refused = [call.exception() for call in calls if call.exception()]
            assert [(error.code().name, error.details()) for error in refused] == [  # type: ignore[union-attr,attr-defined]
                ("UNAVAILABLE", "pending request queue full")
            ]
            await eventually("nobody is inside", lambda: empty(app))

    async def test_the_wait_for_a_slot_is_in_the_metrics(self) -> None:
        model = GateModel()
        async with client(model, container_concurrency=1) as app:
            calls = [asyncio.ensure_future(app.call("ModelInfer", typed("gate", **ROWS))) for _ in range(2)]
            await eventually("one waits", lambda: waits(app))
            held_s = SystemClock().monotonic_s()
            await eventually("a while has passed", lambda: passed(held_s + 0.05))
            model.release.set()
            await asyncio.gather(*calls)
            queue = app.server.metrics.queue.series("gate")
            assert queue.count == 2
            assert queue.total >= 0.05, "the second waited for all of that time"

    async def test_a_call_that_takes_too_long_ends(self) -> None:
        model = GateModel()
        async with client(model, timeout_s=0.1) as app:
            assert await app.refused(app.call("ModelInfer", typed("gate", **ROWS))) == (
                "DEADLINE_EXCEEDED",
                "request timeout",
            )
            await eventually("nobody is inside", lambda: empty(app))
            model.release.set()

    async def test_a_client_that_cancels_frees_its_slot(self) -> None:
        model = GateModel()
        async with client(model, container_concurrency=1) as app:
            call = asyncio.ensure_future(app.call("ModelInfer", typed("gate", **ROWS)))
            await eventually("it is inside", lambda: inside(model))
            call.cancel()
            await eventually("nobody is inside", lambda: empty(app))
            assert app.server.metrics.requests.value("gate", "grpc", "CANCELLED") == 1
            model.release.set()
            assert await app.call("ModelInfer", typed("gate", **ROWS))

    async def test_a_drain_lets_calls_finish_and_answers_those_that_come_meanwhile(self) -> None:
        model = GateModel()
        async with client(model, SumModel("sum"), drain_quiet_s=0.0) as app:
            call = asyncio.ensure_future(app.call("ModelInfer", typed("gate", **ROWS)))
            await eventually("it is inside", lambda: inside(model))
            draining = asyncio.ensure_future(app.server.drain())
            await eventually("it drains", lambda: health(app, "NOT_SERVING"))
            late = await app.call("ModelInfer", typed("sum", **ROWS))
            assert list(late.outputs[0].contents.fp32_contents) == [3, 7]
            model.release.set()
            assert list((await call).outputs[0].contents.int64_contents) == [1]
            await draining
            with pytest.raises(grpc.aio.AioRpcError):
                await health(app, "NOT_SERVING")

    async def test_who_watches_its_health_does_not_keep_it_from_ending(self) -> None:
        async with client(SumModel("sum"), drain_quiet_s=0.0) as app:
            watch = watched(app)
            assert (await watch.read()).status == 1
            async with asyncio.timeout(DEADLINE_S):
                await app.server.drain()
            watch.cancel()


class TestHealth:
    @pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
    async def test_it_serves_when_the_models_are_loaded(self, service: str) -> None:
        model = LoadModel()
        async with client(model, load=False) as app:
            loading = app.server.tasks.create_task(app.server.load())
            assert await health(app, "NOT_SERVING", service)
            watch = watched(app, service)
            assert (await watch.read()).status == 2
            model.release.set()
            await loading
            assert (await watch.read()).status == 1
            watch.cancel()
            assert await health(app, "SERVING", service)

    async def test_an_unknown_service_is_not_found(self, app: Client) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="unknown service nope"):
            await health(app, "SERVING", "nope")


class TestReflection:
    @pytest.mark.parametrize("version", ["v1", "v1alpha"])
    async def test_a_client_without_stubs_learns_everything(self, app: Client, version: str) -> None:
        request = message_class("grpc.reflection.v1.ServerReflectionRequest")
        stream = app.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=request.SerializeToString,
            response_deserializer=message_class("grpc.reflection.v1.ServerReflectionResponse").FromString,
        )()

        async def ask(**question: str) -> Any:
            await stream.write(request(**question))
            return await stream.read()

        listed = (await ask(list_services="")).list_services_response.service
        assert "inference.GRPCInferenceService" in {service.name for service in listed}
        for symbol in (
            "inference.GRPCInferenceService",
            "inference.GRPCInferenceService.ModelInfer",
            "inference.DataType",
        ):
            (found,) = (await ask(file_containing_symbol=symbol)).file_descriptor_response.file_descriptor_proto
            assert FileDescriptorProto.FromString(found) == FILES[0]
        assert (await ask(file_by_filename="health.proto")).HasField("file_descriptor_response")
        assert (await ask(file_containing_symbol="no.Such")).error_response.error_code == 5
        assert (await ask(host="x")).error_response.error_code == 12
        await stream.done_writing()
        stream.cancel()


def test_every_datatype_with_typed_contents_survives_numpy() -> None:
    """The table of fields must know each datatype that JSON may carry."""
    from ladle.protocol.grpc.codec import _CONTENTS

    assert set(_CONTENTS) == {name for name, kind in DATATYPES.items() if kind.json}
    assert np.dtype(bool) == DATATYPES["BOOL"].dtype


async def some_done(calls: list[asyncio.Future[Any]]) -> bool:
    return any(call.done() for call in calls)


async def empty(app: Client) -> bool:
    proxy = app.server.queue_proxy
    return not proxy.stats.concurrency and not proxy.breaker.running


async def waits(app: Client) -> bool:
    return app.server.queue_proxy.breaker.queue_depth == 1


async def passed(moment_s: float) -> bool:
    return SystemClock().monotonic_s() >= moment_s


async def inside(model: GateModel) -> bool:
    return model.inside == 1


def watched(app: Client, service: str = "") -> Any:
    request, response = (message_class(f"grpc.health.v1.HealthCheck{end}") for end in ("Request", "Response"))
    watch = app.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    return watch(request(service=service))


async def health(app: Client, status: str, service: str = "") -> bool:
    request, response = (message_class(f"grpc.health.v1.HealthCheck{end}") for end in ("Request", "Response"))
    check = app.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    answer = await check(request(service=service), timeout=DEADLINE_S)
    return bool(answer.status == {"SERVING": 1, "NOT_SERVING": 2}[status])
