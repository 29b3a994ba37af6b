"""What the proxy's own answers are to a client of gRPC. (pure)"""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from ladle.server.http.messages import Header, Request

UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 2, 4, 12, 13, 14
"""Codes of google.rpc.Code."""
_OF_HTTP = {
    400: INTERNAL,
    404: UNIMPLEMENTED,
    500: INTERNAL,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
}
"""gRPC's own table for proxies, but for 504, which says here that the revision's time is over."""


def is_grpc(request: Request) -> bool:
    """Whether the client reads a status from trailers."""
    return request.headers.get(b"content-type", b"").startswith(b"application/grpc")


def status_of(http_status: int, text: bytes) -> list[Header]:
    """The headers of an answer that is a status and nothing else."""
    code = _OF_HTTP.get(http_status, UNKNOWN)
    head = [(b":status", b"200"), (b"content-type", b"application/grpc")]
    return [*head, *grpc_trailers(code, text)]


def grpc_trailers(code: int, text: bytes) -> list[Header]:
    """The status as trailers; the message is percent-encoded, as gRPC has it."""
    message = quote_from_bytes(text.strip(), safe=" !#$&'()*+,/:;=?@[]").encode()
    return [(b"grpc-status", b"%d" % code), (b"grpc-message", message)]
