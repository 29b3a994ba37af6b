"""The requests of a soak: V1, V2 as JSON and binary, an answer in pieces, gRPC calls and gRPC streams.

Each checks the whole answer: a stream that ends early has failed, even though its status was 200.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import grpc
from tritonclient.grpc import service_pb2

from tests.e2e.manifests import INSTANCES, V2_REQUEST

REQUEST_TIMEOUT_S = 60.0
JSON_HEADERS = {"Content-Type": "application/json"}


class BadAnswer(Exception):
    """An answer that is not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Http:
    """A request on keep-alive connections through the gateway."""

    url: str
    path: str
    read: Callable[[bytes], str]
    """What answered; raises where the answer is not complete."""
    method: str = "POST"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)

    async def open(self, stack: AsyncExitStack, lanes: int) -> Callable[[], Awaitable[str]]:
        address = urlsplit(self.url)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=lanes),
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
                headers={"Host": address.netloc, **self.headers},
            )
        )
        target = f"http://127.0.0.1:{address.port}{self.path}"

        async def call() -> str:
            async with session.request(self.method, target, data=self.body or None) as response:
                content = await response.read()
            if response.status != 200:
                raise BadAnswer(f"{response.status} {dict(response.headers)} {content[:200]!r}")
            return self.read(content)

        return call


def v1(url: str, name: str) -> Http:
    return Http(url, f"/v1/models/{name}:predict", _v1_answer, body=json.dumps(INSTANCES).encode())


def v2(url: str, name: str) -> Http:
    return Http(url, f"/v2/models/{name}/infer", _v2_answer, body=json.dumps(V2_REQUEST).encode())


def v2_binary(url: str, name: str) -> Http:
    rows = INSTANCES["instances"]
    raw = b"".join(struct.pack("<4d", *row) for row in rows)
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP64", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Http(url, f"/v2/models/{name}/infer", _v2_answer, body=head + raw, headers=headers)


def pieces(url: str, *, count: int, gap_s: float) -> Http:
    """A chunked answer of `count` pieces, `gap_s` seconds apart."""

    def read(content: bytes) -> str:
        lines = content.decode().splitlines()
        if lines[1:] != [f"data: {number}" for number in range(count)]:
            raise BadAnswer(f"{len(lines) - 1} of {count} pieces")
        return lines[0]

    return Http(url, f"/pieces?count={count}&gap_s={gap_s}", read, method="GET", headers={})


def _v1_answer(content: bytes) -> str:
    return _one_class(json.loads(content)["predictions"])


def _v2_answer(content: bytes) -> str:
    return _one_class(json.loads(content)["outputs"][0]["data"])


def _one_class(predictions: list[int]) -> str:
    if len(predictions) != 2 or len(set(predictions)) != 1:
        raise BadAnswer(f"predictions {predictions}, must be two of one class")
    return str(predictions[0])


def _channel(url: str) -> grpc.aio.Channel:
    address = urlsplit(url)
    options = [("grpc.default_authority", address.netloc), ("grpc.max_reconnect_backoff_ms", 1000)]
    return grpc.aio.insecure_channel(f"127.0.0.1:{address.port}", options)


@dataclass(frozen=True, slots=True)
class Infer:
    """Predictions of a model by calls of ModelInfer, on one HTTP/2 connection."""

    url: str
    name: str

    async def open(self, stack: AsyncExitStack, lanes: int) -> Callable[[], Awaitable[str]]:
        channel = await stack.enter_async_context(_channel(self.url))
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        request = service_pb2.ModelInferRequest(model_name=self.name)
        tensor = request.inputs.add(name="input-0", datatype="FP64", shape=[2, 4])
        for row in INSTANCES["instances"]:
            tensor.contents.fp64_contents.extend(row)

        async def call() -> str:
            answer = await infer(request, timeout=REQUEST_TIMEOUT_S, wait_for_ready=True)
            return _one_class(list(answer.outputs[0].contents.int64_contents))

        return call


@dataclass(frozen=True, slots=True)
class Grpc:
    """Calls on one HTTP/2 connection: unary, or a stream of `words` answered one by one.

    They wait for the connection: a channel that has lost it refuses calls for a while by itself, and nobody was asked.
    """

    url: str
    words: int = 0

    async def open(self, stack: AsyncExitStack, lanes: int) -> Callable[[], Awaitable[str]]:
        channel = await stack.enter_async_context(_channel(self.url))
        echo = channel.unary_unary("/t.Talker/Echo")
        talk = channel.stream_stream("/t.Talker/Talk")

        async def call() -> str:
            if not self.words:
                answers, expected = [await echo(b"word", timeout=REQUEST_TIMEOUT_S, wait_for_ready=True)], [b"word"]
            else:
                said = [b"%d" % number for number in range(self.words)]
                stream = talk(iter(said), timeout=REQUEST_TIMEOUT_S, wait_for_ready=True)
                answers = [answer async for answer in stream]
                expected = [b"you said " + word for word in said]
            if answers != expected:
                raise BadAnswer(f"{len(answers)} of {len(expected)} messages: {answers!r}")
            return "said"

        return call
