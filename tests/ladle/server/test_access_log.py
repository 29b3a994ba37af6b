"""The access log: one line a request, of what happened and nothing secret."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from ladle.errors import InferenceError
from ladle.protocol.grpc.schema import message_class
from ladle.server.options import ServerOptions
from tests.ladle.server.models import FailingModel, GateModel, StreamModel, SumModel
from tests.ladle.server.serving import served
from tests.ladle.server.wire import ask, wire
from tests.waiting import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = "do-not-log-me"  # A word to look for.


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in found if line["logger"] == "ladle.access"]


async def test_a_line_says_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    async with served(SumModel("sum"), access_log=True) as app:
        answer = await app.v1(
            "sum",
            {"instances": [[1, 2]]},
            x_request_id="abc",
            traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
            authorization=f"Bearer {SECRET}",
        )
    (line,) = lines(capsys)
    assert 0 <= line.pop("queue_s") <= line.pop("duration_s")
    del line["timestamp"]
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "ladle.access",
        "method": "POST",
        "path": "/v1/models/sum:predict",
        "status": 200,
        "bytes": len(answer.body),
        "model": "sum",
        "request_id": "abc",
        "trace_id": TRACE,
    }


async def test_nothing_secret_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    async with served(SumModel("sum"), access_log=True) as app:
        await app.post(f"/v1/models/sum:predict?token={SECRET}", {"instances": [SECRET]}, cookie=SECRET)
        await app.get("/", x_request_id="x" * 10_000, traceparent=SECRET)
    printed = lines(capsys)
    assert [line["path"] for line in printed] == ["/v1/models/sum:predict", "/"]
    assert SECRET not in json.dumps(printed)
    assert len(printed[1]["request_id"]) == 128
    assert "trace_id" not in printed[1]


@pytest.mark.parametrize(
    ("path", "status", "model"),
    [
        ("/v2/models/sum", 200, "sum"),
        ("/v2/models/none", 404, "none"),
        ("/v2/repository/models/sum/load", 405, "sum"),
        ("/nope\\%0a%22", 404, None),
        ("/", 200, None),
    ],
)
async def test_each_status_and_model(
    capsys: pytest.CaptureFixture[str], path: str, status: int, model: str | None
) -> None:
    async with served(SumModel("sum"), access_log=True) as app:
        assert (await app.get(path)).status == status
    (line,) = lines(capsys)
    assert (line["status"], line.get("model")) == (status, model)


async def test_health_checks_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    async with served(SumModel("sum"), access_log=True) as app:
        await app.get("/", user_agent="kube-probe/1.32", k_network_probe="queue")
        await app.get("/", k_network_probe="probe", k_network_hash="1")
    assert lines(capsys) == []


async def test_failures_and_streams(capsys: pytest.CaptureFixture[str]) -> None:
    models = [FailingModel("bad", InferenceError("no")), StreamModel("stream")]
    async with served(*models, access_log=True) as app:
        assert (await app.v1("bad", {"instances": [1]})).status == 500
        streamed = await app.v1("stream", {"instances": [1, 2, 3]})
    bad, stream = lines(capsys)
    assert bad["status"] == 500
    assert (stream["status"], stream["bytes"]) == (200, len(streamed.body))


async def test_a_client_that_leaves_is_a_499(capsys: pytest.CaptureFixture[str]) -> None:
    gate = GateModel()
    async with served(gate, access_log=True) as app:
        async with wire(app.port) as client:
            client.ask("POST", "/v1/models/gate:predict", b'{"instances":[1]}')
            await eventually("it is inside", lambda: _true(gate.inside == 1))
        found: list[dict[str, Any]] = []

        async def logged() -> bool:
            found.extend(lines(capsys))
            return bool(found)

        await eventually("the line", logged)
        gate.release.set()
    assert [line["status"] for line in found] == [499]


async def _true(value: bool) -> bool:
    return value


async def test_the_wait_for_a_slot_is_the_queue_time(capsys: pytest.CaptureFixture[str]) -> None:
    gate = GateModel()
    async with (
        served(gate, access_log=True, container_concurrency=1) as app,
        wire(app.port) as first,
        wire(app.port) as second,
    ):
        for client in (first, second):
            client.ask("POST", "/v1/models/gate:predict", b'{"instances":[1]}')
        await eventually("one waits", lambda: _true(app.server.queue_proxy.breaker.queue_depth == 1))
        gate.release.set()
        assert [(await client.answer()).status for client in (first, second)] == [200, 200]
    one, other = lines(capsys)
    assert other["queue_s"] > one["queue_s"]


async def test_it_is_off_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    async with served(SumModel("sum")) as app:
        await ask(app.port, "GET", "/")
    assert lines(capsys) == []


@pytest.mark.parametrize(
    ("argv", "env", "on"),
    [
        ([], {}, False),
        ([], {"LADLE_ACCESS_LOG": "true"}, True),
        ([], {"LADLE_ACCESS_LOG": "false"}, False),
        (["--access-log"], {}, True),
        (["--access_log=true"], {}, True),
        (["--access_log", "false"], {"LADLE_ACCESS_LOG": "true"}, False),
        (["--access_log_format", "%(h)s"], {}, True),
    ],
)
def test_how_it_is_asked_for(argv: list[str], env: dict[str, str], on: bool) -> None:
    assert ServerOptions.parse(argv, env).access_log is on


async def test_calls_of_grpc_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    request, response = (message_class(f"inference.ModelInfer{end}") for end in ("Request", "Response"))
    async with (
        served(SumModel("sum"), access_log=True, grpc_port=0) as app,
        grpc.aio.insecure_channel(f"127.0.0.1:{app.server.grpc_port}") as channel,
    ):
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", request.SerializeToString, response.FromString
        )
        message = request(model_name="sum")
        message.inputs.add(name="x", datatype="FP64", shape=[1, 2]).contents.fp64_contents.extend([1, 2])
        metadata = (("x-request-id", "abc"), ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"))
        answer = await call(message, metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(request(model_name="none"))
    good, bad = lines(capsys)
    assert (good["method"], good["path"]) == ("gRPC", "/inference.GRPCInferenceService/ModelInfer")
    assert (good["status"], good["bytes"], good["model"]) == ("OK", answer.ByteSize(), "sum")
    assert (good["request_id"], good["trace_id"]) == ("abc", TRACE)
    assert 0 <= good["queue_s"] <= good["duration_s"]
    assert (bad["status"], bad["model"]) == ("NOT_FOUND", "none")
