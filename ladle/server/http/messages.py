"""Requests and responses as values, and the bytes of a response's head."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol, TypeAlias
from urllib.parse import unquote_to_bytes

from ladle.server.http.body import BodyStream

Header: TypeAlias = tuple[bytes, bytes]
"""Name in lower case, and value, as they came."""
Buffer: TypeAlias = bytes | bytearray | memoryview

JSON = b"application/json"
OCTETS = b"application/octet-stream"
TEXT = b"text/plain; charset=utf-8"
NO_SNIFF: Header = (b"x-content-type-options", b"nosniff")
_BODILESS_STATUSES = frozenset({204, 304})
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Of one connection, not of the message (RFC 9110 7.6.1)."""


class Request:
    """One request. `headers` joins repeated ones with a comma; `raw_headers` has them all, in order."""

    __slots__ = (
        "arrived_s",
        "body",
        "headers",
        "keep_alive",
        "method",
        "peer",
        "raw_headers",
        "stream",
        "target",
        "upgrade",
        "version",
    )

    def __init__(self, method: str, target: bytes, raw_headers: list[Header]) -> None:
        self.method = method
        self.target = target
        self.raw_headers = raw_headers
        self.headers = join_headers(raw_headers)
        self.version = "1.1"
        self.keep_alive = True
        self.upgrade = False
        """Whether the client asks for another protocol, and the server leaves that to the application."""
        self.arrived_s = 0.0
        self.peer = ""
        """The client's address, where the server streams bodies, that is, for proxies."""
        self.body: Buffer = b""
        """The whole body, where the server collects bodies."""
        self.stream: BodyStream | None = None
        """The body as it comes, where the server streams them."""

    @property
    def path(self) -> str:
        """The decoded path, without the query. A target in absolute form loses its scheme and host."""
        return path_of(self.target)

    def header(self, name: bytes) -> str:
        """The value of a header by its lower-case name; "" where it is missing."""
        return self.headers.get(name, b"").decode("latin-1")


@lru_cache(maxsize=256)  # A server is asked for few paths, again and again; of 16 kB each, 256 strange ones are 4 MB.
def path_of(target: bytes) -> str:
    """What `Request.path` says of a target."""
    path = target.partition(b"?")[0]
    if not path.startswith(b"/") and b"://" in path:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    if b"%" in path:
        path = unquote_to_bytes(path)
    return path.decode("utf-8", "replace")


def join_headers(raw: list[Header]) -> dict[bytes, bytes]:
    """By name; values of repeated headers joined as RFC 9110 5.3 says."""
    headers = dict(raw)
    if len(headers) != len(raw):
        headers = {}
        for name, value in raw:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


class ByteStream(Protocol):
    """The pieces of a body. `aclose` is always called, also on a stream of which nothing was read."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


class LastWords(bytes):
    """The text with which a proxy ends a stream that took too long. The status is sent by then, so that in HTTP the text
    follows what was sent of the body; a client of gRPC gets it as its status."""


class Response:
    """One answer: `body` in one piece or several, or a `stream` of pieces whose number is not known yet."""

    __slots__ = ("body", "close", "content_type", "headers", "length", "status", "stream")

    def __init__(
        self,
        status: int,
        body: Buffer | tuple[Buffer, ...] = b"",
        *,
        content_type: bytes = JSON,
        headers: tuple[Header, ...] = (),
        stream: ByteStream | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.stream = stream
        self.length: int | None = None
        """How long the stream will be, where that is known."""
        self.close = False
        """Whether the connection ends with this answer."""


def text(status: int, message: str) -> Response:
    """What Go's http.Error writes, which is what Knative's proxies answer: the text, a newline, no sniffing."""
    return Response(status, f"{message}\n".encode(), content_type=TEXT, headers=(NO_SNIFF,))


def render_head(response: Response, length: int | None, *, keep_alive: bool, version: str, date: bytes) -> bytes:
    """The bytes before the body; `length` None for a body of unknown length (chunked, or until close in HTTP/1.0).

    `date` is a whole header line.
    """
    head = _status_and_type(response.status, response.content_type) + date
    if response.status == 200 and length is not None and keep_alive and version == "1.1" and not response.headers:
        return b"%bcontent-length: %d\r\n\r\n" % (head, length)  # Nearly all of them, in one piece.
    for name, value in response.headers:
        head += b"%b: %b\r\n" % (name, value)
    if response.status not in _BODILESS_STATUSES and response.status >= 200:
        if length is not None:
            head += b"content-length: %d\r\n" % length
        elif version != "1.0":
            head += b"transfer-encoding: chunked\r\n"
    if response.status == 101:
        head += b"connection: upgrade\r\n"
    elif not keep_alive:
        head += b"connection: close\r\n"
    elif version == "1.0":
        head += b"connection: keep-alive\r\n"
    return head + b"\r\n"


def has_body(status: int, method: str) -> bool:
    """Whether an answer of this status to this method may carry a body at all (RFC 9110 6.4.1)."""
    return method != "HEAD" and status not in _BODILESS_STATUSES and status >= 200


@lru_cache(maxsize=256)
def _status_and_type(status: int, content_type: bytes) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    line = f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")
    return line + b"content-type: %b\r\n" % content_type if content_type else line
