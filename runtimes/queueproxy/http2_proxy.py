"""Requests to the container over HTTP/2: those that came so, trailers included; and, for a container that hears nothing
else, those that came over HTTP/1.1."""

from __future__ import annotations

import asyncio
import os

from ladle.log import get_logger
from ladle.server.http.body import BodyStream
from ladle.server.http.messages import Header, Request, Response, text
from ladle.server.http2.client import ClientStream, Http2Pool
from ladle.server.http2.connection import Http2Body
from ladle.server.http2.messages import HTTP2, RelayedResponse, request_headers_of
from runtimes.queueproxy.dialing import Dialer
from runtimes.queueproxy.headers import announces_body, request_headers, response_headers

log = get_logger("runtimes.queueproxy")


class Http2ReverseProxy:
    """An http Handler that lets the container answer; 502 with the reason where it does not."""

    def __init__(self, host: str, port: int, tasks: asyncio.TaskGroup, dialer: Dialer) -> None:
        self._address = f"{host}:{port}"
        self._dialer = dialer
        self._pool = Http2Pool(host, port)
        self._tasks = tasks

    async def __call__(self, request: Request) -> Response:
        try:
            connection = await self._dialer.connect(self._pool.connection)
            body = request.stream
            assert body is not None, "of a server that streams bodies"
            stream = connection.begin(_headers_for_container(request), end_stream=_is_spent(request, body))
        except OSError as error:
            return self._bad_gateway(error)
        try:
            if not stream.sent_all:
                stream.sender = self._tasks.create_task(stream.send(body))
            head = await stream.head
        except OSError as error:
            stream.close()
            return self._bad_gateway(error)
        except BaseException:  # Also where it is cancelled: nobody wants the answer any more.
            stream.close()
            raise
        if request.version != HTTP2:
            return _for_http1(head, stream)
        if stream.body.spent and stream.trailers is None:
            stream.close()
            return RelayedResponse(head, None, _no_trailers)
        return RelayedResponse(head, _Relay(stream), lambda: stream.trailers)

    def close(self) -> None:
        self._pool.close()

    def _bad_gateway(self, error: OSError) -> Response:
        log.warning("container did not answer", address=self._address, error=repr(error))
        if isinstance(error, ConnectionRefusedError):
            return text(502, f"dial tcp {self._address}: connect: connection refused")
        return text(502, os.strerror(error.errno).lower() if error.errno else str(error) or "EOF")


def _headers_for_container(request: Request) -> list[Header]:
    fields = request_headers(request, chunked=False)
    host = next((value for name, value in fields if name == b"host"), b"")
    return request_headers_of(request, authority=host, fields=fields)


def _is_spent(request: Request, body: BodyStream) -> bool:
    """Whether nothing of the request's body is still to be sent."""
    return body.spent if isinstance(body, Http2Body) else not announces_body(request)


def _for_http1(head: list[Header], stream: ClientStream) -> Response:
    """The answer in HTTP/1.1, which has no place for trailers that nobody asked for."""
    relayed = RelayedResponse(head, _Relay(stream), _no_trailers)
    fields = [header for header in relayed.head if not header[0].startswith(b":")]
    response = Response(relayed.status, content_type=b"", headers=response_headers(fields), stream=relayed.stream)
    response.length = 0 if relayed.length is None and stream.body.spent else relayed.length
    return response


def _no_trailers() -> None:
    """Of an answer that is headers only."""


class _Relay:
    """The body of the container's answer."""

    def __init__(self, stream: ClientStream) -> None:
        self._stream = stream

    def __aiter__(self) -> _Relay:
        return self

    async def __anext__(self) -> bytes:
        return await self._stream.body.__anext__()

    async def aclose(self) -> None:
        self._stream.close()
