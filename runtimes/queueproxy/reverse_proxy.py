"""Requests to the container and answers back, as streams in both directions."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from ladle.log import get_logger
from ladle.server.http.client import ClientConnection, ClientPool, NeverAnsweredError, ResponseHead
from ladle.server.http.messages import Request, Response, text
from runtimes.queueproxy.dialing import Dialer
from runtimes.queueproxy.headers import announces_body, request_headers, response_headers

_SWITCHING = 101
_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS"})

log = get_logger("runtimes.queueproxy")


class ReverseProxy:
    """An http Handler that lets the container answer; 502 with the reason where it does not."""

    def __init__(self, pool: ClientPool, dialer: Dialer) -> None:
        self._pool = pool
        self._dialer = dialer

    async def __call__(self, request: Request) -> Response:
        try:
            return await self._exchange(request, fresh=request.upgrade)
        except NeverAnsweredError as error:
            if request.upgrade or request.method not in _SAFE_TO_REPEAT or announces_body(request):
                return self._bad_gateway(error)
        except OSError as error:
            return self._bad_gateway(error)
        # A kept connection that the container closed in the moment it was used again: once more, on one of its own.
        try:
            return await self._exchange(request, fresh=True)
        except OSError as error:
            return self._bad_gateway(error)

    async def _exchange(self, request: Request, *, fresh: bool) -> Response:
        connection = await self._dialer.connect(lambda: self._pool.connection(fresh=fresh))
        chunked = b"transfer-encoding" in request.headers
        try:
            head = await connection.request(
                _render(request, request_headers(request, chunked=chunked)),
                body=_body_of(request),
                chunked=chunked,
                head_only=request.method == "HEAD",
            )
        except BaseException:  # Also where it is cancelled: half an exchange must not be continued.
            connection.close()
            raise
        response = Response(
            head.status, content_type=b"", headers=response_headers(head.headers, switched=head.status == _SWITCHING)
        )
        response.length = _length_of(head)
        response.close = request.upgrade  # Where the container declined, what the client has sent since is nobody's.
        response.stream = ResponseStream(connection)
        return response

    def _bad_gateway(self, error: OSError) -> Response:
        log.warning("container did not answer", port=self._pool.port, error=repr(error))
        return text(502, self._go_text(error))

    def _go_text(self, error: OSError) -> str:
        """As Go's net package words it, which is what Knative's clients see."""
        if isinstance(error, ConnectionRefusedError):
            return f"dial tcp {self._pool.host}:{self._pool.port}: connect: connection refused"
        return os.strerror(error.errno).lower() if error.errno else str(error) or "EOF"


class ResponseStream:
    """The body of the container's answer; gives the connection back when it ends."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def __aiter__(self) -> ResponseStream:
        return self

    async def __anext__(self) -> bytes:
        return await self._connection.next_piece()

    async def aclose(self) -> None:
        self._connection.release()


def _render(request: Request, headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode(), _target(request.target))]
    lines += [b"%b: %b\r\n" % header for header in headers]
    return b"".join(lines) + b"\r\n"


def _target(target: bytes) -> bytes:
    """In origin form; a target in absolute form is for proxies, and its host has been dealt with."""
    if target.startswith(b"/") or b"://" not in target:
        return target
    return b"/" + target.partition(b"://")[2].partition(b"/")[2]


def _body_of(request: Request) -> AsyncIterator[bytes] | None:
    return request.stream if request.upgrade or announces_body(request) else None


def _length_of(head: ResponseHead) -> int | None:
    for name, value in head.headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None
