"""What a proxy changes in the headers of requests and responses (spec/knative.md 3.7). (pure)"""

from __future__ import annotations

from collections.abc import Iterable

from ladle.server.http.messages import HOP_BY_HOP, Header, Request

_NOT_FOR_THE_CONTAINER = frozenset(
    {b"knative-serving-revision", b"knative-serving-namespace", b"k-original-host", b"expect"}
)
_ORIGINAL_HOST = b"k-original-host"
_FORWARDED_FOR = b"x-forwarded-for"


def request_headers(request: Request, *, chunked: bool) -> list[Header]:
    """The headers of the request to the container; `chunked` where its body's length is not known."""
    dropped = HOP_BY_HOP | _NOT_FOR_THE_CONTAINER | _connection_options(request.raw_headers) | {_FORWARDED_FOR}
    original_host = request.headers.get(_ORIGINAL_HOST)
    kept = []
    for name, value in request.raw_headers:
        if name == b"host" and original_host:
            kept.append((name, original_host))
        elif name not in dropped:
            kept.append((name, value))
    forwarded = forwarded_header(request)
    if forwarded:
        kept.append((b"forwarded", forwarded))
    before = request.headers.get(_FORWARDED_FOR)
    peer = request.peer.encode("ascii", "ignore")
    if before or peer:
        kept.append((_FORWARDED_FOR, b", ".join(part for part in (before, peer) if part)))
    if chunked:
        kept.append((b"transfer-encoding", b"chunked"))
    if request.upgrade:
        kept += [(b"connection", b"Upgrade"), (b"upgrade", request.headers[b"upgrade"])]
    return kept


def announces_body(request: Request) -> bool:
    """Whether the headers of a request over HTTP/1.1 say that a body follows."""
    return b"transfer-encoding" in request.headers or request.headers.get(b"content-length", b"0") != b"0"


def forwarded_header(request: Request) -> bytes:
    """RFC 7239's header, made of the X-Forwarded- ones where those are there and it is not; else nothing."""
    headers = request.headers
    if b"forwarded" in headers:
        return b""
    client, host, protocol = (headers.get(b"x-forwarded-" + name, b"") for name in (b"for", b"host", b"proto"))
    first, *others = [b"for=" + _node(part.strip()) for part in client.split(b",")] if client else [b""]
    pairs = [first, b"host=" + host if host else b"", b"proto=" + protocol if protocol else b""]
    return b", ".join(part for part in (b";".join(pair for pair in pairs if pair), *others) if part)


def _node(address: bytes) -> bytes:
    return b'"[%b]"' % address.strip(b"[]") if b":" in address else address


def response_headers(headers: Iterable[Header], *, switched: bool = False) -> tuple[Header, ...]:
    """The headers for the client; framing and date are the server's own. `switched`: after a 101, which names a protocol."""
    listed = list(headers)
    dropped = HOP_BY_HOP | _connection_options(listed) | {b"content-length", b"date"}
    if switched:
        dropped -= {b"upgrade"}
    return tuple(header for header in listed if header[0] not in dropped)


def _connection_options(headers: Iterable[Header]) -> frozenset[bytes]:
    """What the Connection header itself names as hop-by-hop."""
    return frozenset(
        option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")
    )
