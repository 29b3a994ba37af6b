"""HTTP/2's headers as requests and responses, and back. (pure)"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ladle.server.http.body import BodyStream
from ladle.server.http.messages import HOP_BY_HOP, ByteStream, Header, Request, Response

HTTP2 = "2"
"""The version of such a request."""
_METHOD, _PATH, _AUTHORITY, _STATUS = b":method", b":path", b":authority", b":status"


class RelayedResponse(Response):
    """Another server's answer: its headers as they came, and the trailers that its body ends with."""

    __slots__ = ("head", "trailers")

    def __init__(
        self, headers: list[Header], stream: ByteStream | None, trailers: Callable[[], list[Header] | None]
    ) -> None:
        """`stream` None: the headers are all of it."""
        status = next((int(value) for name, value in headers if name == _STATUS), 502)
        super().__init__(status, content_type=b"", stream=stream)
        self.length = next((int(value) for name, value in headers if name == b"content-length"), None)
        self.head = [header for header in headers if header[0] not in HOP_BY_HOP]
        self.trailers = trailers


def request_of(headers: Iterable[Header], body: BodyStream, *, peer: str, arrived_s: float) -> Request | None:
    """The request that the application sees; None for a CONNECT, which leads nowhere here."""
    listed = [(bytes(name), bytes(value)) for name, value in headers]
    pseudo = {name: value for name, value in listed if name.startswith(b":")}
    if pseudo.get(_METHOD) == b"CONNECT" or not pseudo.get(_PATH):
        return None
    fields = [header for header in listed if not header[0].startswith(b":")]
    if _AUTHORITY in pseudo:
        fields = [(b"host", pseudo[_AUTHORITY]), *(header for header in fields if header[0] != b"host")]
    request = Request(pseudo[_METHOD].decode("latin-1"), pseudo[_PATH], fields)
    request.version = HTTP2
    request.peer = peer
    request.arrived_s = arrived_s
    request.stream = body
    return request


def request_headers_of(request: Request, *, authority: bytes, fields: Iterable[Header]) -> list[Header]:
    """The headers of a request for the next hop: pseudo-headers first, then `fields` without their Host."""
    pseudo = [
        (_METHOD, request.method.encode()),
        (b":scheme", b"http"),
        (_AUTHORITY, authority),
        (_PATH, request.target),
    ]
    rest = [header for header in fields if header[0] != b"host"]
    if request.headers.get(b"te") == b"trailers":  # The one value that HTTP/2 allows, and gRPC asks for.
        rest.append((b"te", b"trailers"))
    return [*pseudo, *rest]
