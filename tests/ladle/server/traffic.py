"""Requests of every kind, many of them, for tests that look at what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

from ladle.protocol.grpc.schema import message_class
from tests.ladle.server.wire import render

WINDOW = 16
"""Requests that are sent before their answers are read."""
LANES = 4
DEADLINE_S = 120.0
MODEL = "m"
V1 = render("POST", f"/v1/models/{MODEL}:predict", json.dumps({"instances": [[1, 2], [3, 4]]}).encode())
_INPUT = {"name": "x", "shape": [2, 2], "datatype": "FP32"}
V2 = render("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [{**_INPUT, "data": [1, 2, 3, 4]}]}).encode())
_HEAD = json.dumps(
    {"inputs": [{**_INPUT, "parameters": {"binary_data_size": 16}}], "parameters": {"binary_data_output": True}}
).encode()
BINARY = render(
    "POST",
    f"/v2/models/{MODEL}/infer",
    _HEAD + struct.pack("<4f", 1, 2, 3, 4),
    inference_header_content_length=str(len(_HEAD)),
)
_ERRORS = [
    render("POST", f"/v1/models/{MODEL}:predict", b"{"),
    render("POST", "/v1/models/none:predict", b"{}"),
    render("POST", f"/v2/models/{MODEL}/infer", b"{}"),
    render("GET", f"/v1/models/{MODEL}:predict"),
    render("GET", "/nope"),
    render("POST", f"/v2/models/{MODEL}/infer", b"xx", inference_header_content_length="7"),
]
_MALFORMED = [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"]

Kind = Callable[[int, int, int], Awaitable[None]]
"""Sends so many requests of one kind to a port for HTTP and a port for gRPC."""


def _repeated(*requests: bytes, status: bytes = b"") -> Kind:
    async def send(http_port: int, _: int, count: int) -> None:
        async with asyncio.TaskGroup() as lanes:
            for _lane in range(LANES):
                lanes.create_task(_pipeline(http_port, requests, count // LANES, status))

    return send


async def _pipeline(port: int, requests: tuple[bytes, ...], count: int, status: bytes) -> None:
    """Keeps a window of requests on one connection; every answer must have the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    while sent < count:
        window = min(WINDOW, count - sent)
        writer.write(b"".join(requests[(sent + place) % len(requests)] for place in range(window)))
        for _ in range(window):
            async with asyncio.timeout(DEADLINE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 " + status), head
                length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
        sent += window
    writer.close()
    await writer.wait_closed()


async def _malformed(http_port: int, _: int, count: int) -> None:
    for place in range(count):
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", http_port)
            writer.write(_MALFORMED[place % len(_MALFORMED)])
            assert b"connection: close" in await reader.read()
            writer.close()
            await writer.wait_closed()


async def _aborted(http_port: int, _: int, count: int) -> None:
    """Clients that leave: in a head, in a body, before the answer, after a part of a chunk."""
    stops = [V1[:20], V1[:-5], V1, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe"]
    for place in range(count):
        async with asyncio.timeout(DEADLINE_S):
            _, writer = await asyncio.open_connection("127.0.0.1", http_port)
            writer.write(stops[place % len(stops)])
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _calls(_: int, grpc_port: int, count: int) -> None:
    request, response = (message_class(f"inference.ModelInfer{end}") for end in ("Request", "Response"))
    message = request(model_name=MODEL)
    message.inputs.add(name="x", datatype="FP32", shape=[2, 2]).contents.fp32_contents.extend([1, 2, 3, 4])
    bad = request(model_name="none")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", request.SerializeToString, response.FromString
        )

        async def lane() -> None:
            for place in range(count // LANES):
                if place % 8 == 7:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await call(bad, timeout=DEADLINE_S)
                else:
                    await call(message, timeout=DEADLINE_S)

        async with asyncio.TaskGroup() as lanes:
            for _lane in range(LANES):
                lanes.create_task(lane())


KINDS: Mapping[str, Kind] = {
    "V1": _repeated(V1, status=b"200"),
    "V2 JSON": _repeated(V2, status=b"200"),
    "V2 binary": _repeated(BINARY, status=b"200"),
    "errors": _repeated(*_ERRORS, status=b"4"),
    "malformed": _malformed,
    "aborted": _aborted,
    "gRPC": _calls,
}


def anonymous_bytes(pid: int) -> int:
    """The memory of a process that belongs to it alone: without files and what it shares with its parent."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        fields: dict[str, Any] = dict(line.split(":", 1) for line in status)
    return int(fields["RssAnon"].split()[0]) * 1024
