"""A readiness probe of the kind grpc: the container's health service is asked, as the kubelet and Knative ask it.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import contextlib
import struct

from ladle.server.http.messages import Header
from ladle.server.http2.client import Http2Pool

_HEADERS: tuple[Header, ...] = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/grpc.health.v1.Health/Check"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
_SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING}: field 1, varint 1."""
_PREFIX = struct.Struct(">BI")
"""Before a message in gRPC: whether it is compressed, and its length."""


async def is_serving(host: str, port: int, service: str) -> bool:
    """Whether the server says SERVING of the service, "" for all of it; OSError where it does not speak HTTP/2."""
    name = service.encode()
    request = b"\x0a" + _varint(len(name)) + name if name else b""  # HealthCheckRequest: field 1, a string.
    with contextlib.closing(Http2Pool(host, port)) as pool:
        connection = await pool.connection()
        stream = connection.begin([(b":authority", f"{host}:{port}".encode()), *_HEADERS], end_stream=False)
        await connection.send_data(stream.id, _PREFIX.pack(0, len(request)) + request)
        connection.end_stream(stream.id)
        await stream.head
        answer = b"".join([piece async for piece in stream.body])
    return answer == _PREFIX.pack(0, len(_SERVING)) + _SERVING


def _varint(number: int) -> bytes:
    """As protobuf writes lengths."""
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])
