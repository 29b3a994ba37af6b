"""grpc.health.v1.Health/Check in a few frames of HTTP/2, so that the node need not load gRPC for a probe.

Only what the answer's data says is looked at: a serving server sends one message with status 1. Header blocks need not be
understood for that, so there is no HPACK decoder here; ours are sent as literals, which every server must take (RFC 7541,
6.2.2).
"""

from __future__ import annotations

import asyncio
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 0x1, 0x4, 0x1, 0x8
_STREAM = 1
_FRAME_BYTES_MAX = 16384
"""HTTP/2's limit unless we allow more."""
_TEXT_BYTES_MAX = 126
_SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING}: field 1, varint 1."""


async def check_health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service: str) -> str:
    """What is wrong with the service, "" where it says SERVING. OSError, EOFError: no answer."""
    writer.write(build_check(service))
    message = b""
    while True:
        kind, flags, stream, payload = await _frame(reader)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(build_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _DATA and stream == _STREAM:
            message += payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
            if len(message) >= 5 and len(message) >= 5 + struct.unpack(">I", message[1:5])[0]:
                return "" if message[5:] == _SERVING else "service unhealthy"
        elif kind in (_RST_STREAM, _GOAWAY) or (kind == _HEADERS and stream == _STREAM and flags & _END_STREAM):
            return "service unhealthy or without health service"


def build_check(service: str) -> bytes:
    """The client's side of the connection: preface, settings, and the one request."""
    headers = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/grpc.health.v1.Health/Check"),
        (b":authority", b"127.0.0.1"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)
    request = b"\x0a" + _text(service.encode()) if service else b""
    message = b"\x00" + struct.pack(">I", len(request)) + request
    return b"".join(
        (
            _PREFACE,
            build_frame(_SETTINGS, 0, 0, b""),
            build_frame(_HEADERS, _END_HEADERS, _STREAM, block),
            build_frame(_DATA, _END_STREAM, _STREAM, message),
        )
    )


def _text(text: bytes) -> bytes:
    """A string with its length in one byte, as both HPACK (7 bits, no Huffman code) and protobuf write short ones."""
    if len(text) > _TEXT_BYTES_MAX:
        raise ValueError(f"grpc.service has {len(text)} characters, at most {_TEXT_BYTES_MAX} are supported")
    return bytes([len(text)]) + text


def build_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def _frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    """Kind, flags, stream and payload of the next frame."""
    head = await reader.readexactly(9)
    length = int.from_bytes(head[:3])
    if length > _FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {length} bytes: this is not HTTP/2")
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return kind, flags, stream, await reader.readexactly(length)
