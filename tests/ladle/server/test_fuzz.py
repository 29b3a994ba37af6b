"""Whatever comes: no answer of 5xx but for what says why, no hang, and the server serves on.

REST beside what the OpenAPI document describes (test_docs.py): bodies that only resemble requests, the binary tensor
extension, odd paths and methods. gRPC: messages of every method, well formed and random bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ladle.protocol.datatypes import DATATYPES
from ladle.protocol.grpc.schema import METHODS, message_class
from tests.ladle.server.background import Background
from tests.ladle.server.models import EchoModel

EXAMPLES = 100
DEADLINE_S = 30.0
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
NAMES = st.sampled_from(["echo", "none", "", "a/b", "%00", "é"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
SIZES = st.integers(-1, 9) | st.sampled_from([2**31, 2**63, 1.5, "4", None])
PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", "content_type", "shared_memory_region"]),
    SIZES | st.booleans(),
    max_size=2,
)


def sometimes(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is expected there, now and then anything."""
    return st.one_of(strategy, strategy, strategy, JSON)


INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "name": sometimes(st.text(max_size=3)),
        "datatype": sometimes(st.sampled_from([*DATATYPES, "FP8"])),
        "shape": sometimes(st.lists(SIZES, max_size=3)),
        "data": sometimes(st.lists(st.integers(-300, 300) | st.floats() | st.text(max_size=2), max_size=4)),
        "parameters": sometimes(PARAMETERS),
    },
)
V2 = st.fixed_dictionaries(
    {},
    optional={
        "id": sometimes(st.text(max_size=3)),
        "inputs": sometimes(st.lists(sometimes(INPUTS), max_size=2)),
        "outputs": sometimes(st.lists(st.fixed_dictionaries({"name": st.text(max_size=3)}), max_size=2)),
        "parameters": sometimes(PARAMETERS),
    },
)
V1 = st.fixed_dictionaries({}, optional={"instances": sometimes(st.lists(JSON, max_size=3)), "inputs": JSON})


@pytest.fixture(scope="module")
def server() -> Iterator[Background]:
    with Background(EchoModel("echo"), grpc_port=0) as running:
        yield running


def ask(server: Background, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def assert_answered(status: int, body: bytes) -> None:
    """An answer, and where it is JSON, JSON; 501 is an answer, 503 tells of a model that was unloaded."""
    assert status < 500 or status in (501, 503), body
    if body.startswith((b"{", b"[")) and status >= 400:
        assert {"error", "detail"} & set(json.loads(body)), body


@SETTINGS
@given(body=sometimes(V1), verb=st.sampled_from(["predict", "explain"]), name=st.sampled_from(["echo", "none"]))
def test_v1_bodies(server: Background, body: Any, verb: str, name: str) -> None:
    assert_answered(*ask(server, "POST", f"/v1/models/{name}:{verb}", json.dumps(body).encode()))


@SETTINGS
@given(body=sometimes(V2), raw=st.binary(max_size=40), cut=st.integers(-3, 3), told=st.booleans())
def test_v2_bodies_with_and_without_tensors_behind_them(
    server: Background, body: Any, raw: bytes, cut: int, told: bool
) -> None:
    head = json.dumps(body).encode()
    headers = {"inference_header_content_length": str(len(head) + cut)} if told else {}
    assert_answered(*ask(server, "POST", "/v2/models/echo/infer", head + raw, **headers))


@SETTINGS
@given(
    body=st.binary(max_size=60),
    coding=st.sampled_from(["gzip", "deflate", "identity", "br", "gzip, gzip", "é"]),
    content_type=st.sampled_from(["application/json", "application/octet-stream", "application/cloudevents+json", "x"]),
    path=st.sampled_from(["/v1/models/echo:predict", "/v2/models/echo/infer", "/v2/repository/index"]),
    length=st.text(st.sampled_from("0123456789-+ _e."), max_size=20),
)
def test_bytes_and_headers(
    server: Background, body: bytes, coding: str, content_type: str, path: str, length: str
) -> None:
    headers = {"content_encoding": coding, "content_type": content_type, "inference_header_content_length": length}
    assert_answered(*ask(server, "POST", path, body, ce_specversion="1.0", **headers))
    assert_answered(*ask(server, "POST", path, body, **headers))


@SETTINGS
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    parts=st.lists(
        st.sampled_from(["", "v1", "v2", "models", "repository", "index", "health", "ready", "echo", "echo:predict"])
        | st.sampled_from(
            ["infer", "stats", "config", "versions", "load", "metrics", "..", "%2e%2e", "%2f", "?a=b", ":"]
        ),
        max_size=6,
    ),
)
def test_paths_and_methods(server: Background, method: str, parts: list[str]) -> None:
    assert_answered(*ask(server, method, "/" + "/".join(parts), b"{}"))


@SETTINGS
@given(method=st.sampled_from(sorted(METHODS)), message=st.binary(max_size=60))
def test_random_bytes_as_grpc_messages(server: Background, method: str, message: bytes) -> None:
    assert call(server, method, message) in {*ANSWERS, "UNKNOWN"}, "UNKNOWN is grpc's own for what is no message"


FIELDS = ["bool_contents", "int_contents", "int64_contents", "uint_contents", "uint64_contents", "fp32_contents"]
ANSWERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "UNIMPLEMENTED"}


@SETTINGS
@given(
    name=st.sampled_from(["echo", "none", ""]),
    tensors=st.lists(
        st.tuples(
            st.sampled_from([*DATATYPES, "", "FP8"]),
            st.lists(st.integers(-1, 4) | st.just(2**62), max_size=3),
            st.lists(st.sampled_from(FIELDS), max_size=2),
            st.lists(st.sampled_from([0, 1]), max_size=4),
        ),
        max_size=2,
    ),
    raw=st.lists(st.binary(max_size=16), max_size=2),
    wanted=st.lists(st.sampled_from(["t0", "t1", "x"]), max_size=2),
)
def test_inference_messages(
    server: Background, name: str, tensors: list[Any], raw: list[bytes], wanted: list[str]
) -> None:
    message = message_class("inference.ModelInferRequest")(model_name=name, raw_input_contents=raw)
    for place, (datatype, shape, fields, values) in enumerate(tensors):
        tensor = message.inputs.add(name=f"t{place}", datatype=datatype, shape=shape)
        for field in fields:
            getattr(tensor.contents, field).extend(
                bool(value) if field == "bool_contents" else value for value in values
            )
    for output in wanted:
        message.outputs.add(name=output)
    assert call(server, "ModelInfer", message.SerializeToString()) in ANSWERS


def call(server: Background, method: str, message: bytes) -> str:
    """The code of the call."""
    stub = server.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    try:
        stub(message, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        code: str = error.code().name
        return code
    return "OK"


def test_after_all_that_it_serves_as_before(server: Background) -> None:
    assert ask(server, "POST", "/v2/repository/models/echo/load")[0] == 200
    body = json.dumps({"instances": [1]}).encode()
    assert ask(server, "POST", "/v1/models/echo:predict", body) == (200, b'{"instances":[1]}')
    assert call(server, "ServerReady", b"") == "OK"
    assert asyncio.run_coroutine_threadsafe(inside(server), server.loop).result(DEADLINE_S) == 0


async def inside(server: Background) -> int:
    return server.app.server.queue_proxy.stats.concurrency
