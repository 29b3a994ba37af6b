"""Heads of requests and responses: read into values, and rendered for the next hop (pure).

What a proxy has to decide about headers is here: which ones end at this hop (RFC 9110 7.6.1), how a body is framed, and
what Knative's activator changes. What proxies are known to disagree about, and request smuggling lives on, is refused:
several Host, a Transfer-Encoding that is not exactly "chunked", or one besides a Content-Length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NamedTuple

from onebox.knative.endpoints import Address

HEAD_BYTES_MAX: Final = 64 * 1024
"""Longest head, request line and headers; Envoy's default is 60 KiB."""
TEXT: Final = b"text/plain; charset=utf-8"

_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
# Knative's own headers; they name the revision for this hop, and must not reach the user's container.
_REVISION_HEADERS: Final = frozenset({b"knative-serving-revision", b"knative-serving-namespace"})
_REPLACED: Final = frozenset({b"host", b"k-proxy-request", b"expect"})
_KEPT_ALWAYS: Final = frozenset({b"content-length", b"host"})  # Whatever a Connection header says about them.
_BODILESS: Final = frozenset({204, 304})

Header = tuple[bytes, bytes]


class BadRequest(Exception):
    """A request that is not answered but refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestLine(NamedTuple):
    method: bytes
    target: bytes
    http_1_0: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """One request without its body."""

    line: RequestLine
    host: str = ""
    revision: str = ""
    """Of the header Knative-Serving-Revision."""
    namespace: str = ""
    user_agent: str = ""
    probe: str = ""
    """Of the header K-Network-Probe."""
    probe_hash: str = ""
    original_host: bytes = b""
    content_length: int = 0
    chunked: bool = False
    expects_continue: bool = False
    websocket: bool = False
    passed_on: tuple[Header, ...] = ()
    """The headers for the next hop, as they came, besides those that this proxy writes itself."""

    @property
    def has_body(self) -> bool:
        return self.chunked or self.content_length > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """One response without its body."""

    status: int
    reason: bytes = b""
    headers: tuple[Header, ...] = ()
    content_length: int | None = None
    """None: not announced; the body is chunked or ends with the connection."""
    chunked: bool = False

    def has_body(self, method: bytes) -> bool:
        """Whether a body may follow at all, as an answer to this method (RFC 9110 6.4.1)."""
        return method != b"HEAD" and self.status >= 200 and self.status not in _BODILESS


@dataclass(slots=True)
class _Found:
    values: dict[bytes, bytes] = field(default_factory=dict)
    listed: frozenset[bytes] = frozenset()


def parse_request_head(line: RequestLine, headers: list[Header]) -> RequestHead:
    """The head; `BadRequest` where it cannot be passed on safely. `headers` are as they came, in order."""
    found = _find(headers)
    values = found.values
    encoding = values.get(b"transfer-encoding")
    if encoding is not None and (encoding.lower() != b"chunked" or line.http_1_0 or b"content-length" in values):
        raise BadRequest(400, "unsupported transfer encoding")
    if b"host" not in values and not line.http_1_0:
        raise BadRequest(400, "missing required Host header")
    if line.method == b"CONNECT":
        raise BadRequest(405, "method not allowed")
    dropped = _HOP_BY_HOP | _REVISION_HEADERS | _REPLACED | found.listed
    upgrade = values.get(b"upgrade", b"").lower()
    return RequestHead(
        line=line,
        host=_text(values, b"host"),
        revision=_text(values, b"knative-serving-revision"),
        namespace=_text(values, b"knative-serving-namespace"),
        user_agent=_text(values, b"user-agent"),
        probe=_text(values, b"k-network-probe"),
        probe_hash=_text(values, b"k-network-hash"),
        original_host=values.get(b"k-original-host", b""),
        content_length=_length(values) or 0,
        chunked=encoding is not None,
        expects_continue=values.get(b"expect", b"").lower() == b"100-continue" and not line.http_1_0,
        websocket=upgrade == b"websocket" and b"upgrade" in found.listed,
        passed_on=tuple(header for header in headers if header[0].lower() not in dropped),
    )


def render_request(head: RequestHead, address: Address) -> bytes:
    """The head for a pod: as it came, but for what Knative's activator says (spec/knative.md 4.1).

    X-Forwarded-For stays as it is: the gateway has written it, and this hop is not one that users know of.
    """
    line = head.line
    parts = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (line.method, line.target, str(address).encode())]
    parts += [b"%b: %b\r\n" % header for header in (*head.passed_on, *added_headers(head))]
    if head.chunked:
        parts.append(b"transfer-encoding: chunked\r\n")
    if head.websocket:
        parts.append(b"connection: Upgrade\r\nupgrade: websocket\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def added_headers(head: RequestHead) -> Iterator[Header]:
    """What tells a pod that the request came through the activator, and for which host it was meant."""
    if not head.original_host and head.host:
        yield b"k-original-host", head.host.encode("latin-1")
    yield b"k-proxy-request", b"activator"


def parse_response_head(status: int, reason: bytes, headers: list[Header]) -> ResponseHead:
    """The head of a pod's answer; ValueError where its length is no number."""
    found = _find(headers)
    chunked = found.values.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
    # A 101 keeps its Upgrade: that is the answer.
    dropped = (found.listed | _HOP_BY_HOP) - ({b"upgrade"} if status == HTTPStatus.SWITCHING_PROTOCOLS else set())
    if chunked:
        dropped |= {b"content-length"}
    return ResponseHead(
        status=status,
        reason=reason,
        headers=tuple(header for header in headers if header[0].lower() not in dropped),
        content_length=None if chunked else _length(found.values),
        chunked=chunked,
    )


def render_response(head: ResponseHead, method: bytes, *, rechunked: bool, connection: bytes) -> bytes:
    """The head for the client. `connection`: value of a Connection header, or nothing."""
    parts = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    parts += [b"%b: %b\r\n" % header for header in head.headers]
    if rechunked and head.has_body(method):
        parts.append(b"transfer-encoding: chunked\r\n")
    if connection:
        parts.append(b"connection: %b\r\n" % connection)
    parts.append(b"\r\n")
    return b"".join(parts)


def text_response(status: int, body: bytes, headers: tuple[Header, ...] = ()) -> ResponseHead:
    """The head of an answer of our own."""
    length = b"%d" % len(body)
    typed = ((b"content-type", TEXT),) if body else ()
    return ResponseHead(
        status=status,
        reason=HTTPStatus(status).phrase.encode(),
        headers=(*typed, (b"content-length", length), *headers),
        content_length=len(body),
    )


def _find(headers: list[Header]) -> _Found:
    """Values by lower-case name, of the first of several; and the names that Connection lists."""
    found = _Found()
    listed: set[bytes] = set()
    for name, value in headers:
        name = name.lower()
        if name in (b"host", b"content-length", b"transfer-encoding") and name in found.values:
            raise BadRequest(400, f"more than one {name.decode()} header")
        if name == b"connection":
            listed.update(item.strip().lower() for item in value.split(b","))
        found.values.setdefault(name, value)
    found.listed = frozenset(listed - _KEPT_ALWAYS)
    return found


def _length(values: dict[bytes, bytes]) -> int | None:
    text = values.get(b"content-length")
    if text is None:
        return None
    if not text.isdigit():
        raise BadRequest(400, "bad content-length")
    return int(text)


def _text(values: dict[bytes, bytes], name: bytes) -> str:
    return values.get(name, b"").decode("latin-1")
