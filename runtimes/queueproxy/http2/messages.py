"""HTTP/2's headers as requests and responses, and back. (pure)"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ladle.server.http.body import BodyStream
from ladle.server.http.messages import ByteStream, Header, Request, Response
from runtimes.queueproxy.headers import HOP_BY_HOP, request_headers

HTTP2 = "2"
"""The version of such a request."""
_METHOD, _PATH, _AUTHORITY, _STATUS = b":method", b":path", b":authority", b":status"


class RelayedResponse(Response):
    """The container's answer: its headers as they came, and the trailers that its body ends with."""

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


def headers_for_container(request: Request) -> list[Header]:
    """The request's headers as the container gets them, pseudo-headers first."""
    fields = request_headers(request, chunked=False)
    host = next((value for name, value in fields if name == b"host"), b"")
    pseudo = [(_METHOD, request.method.encode()), (b":scheme", b"http"), (_AUTHORITY, host), (_PATH, request.target)]
    rest = [header for header in fields if header[0] != b"host"]
    if request.headers.get(b"te") == b"trailers":  # The one value that HTTP/2 allows, and gRPC asks for.
        rest.append((b"te", b"trailers"))
    return [*pseudo, *rest]
