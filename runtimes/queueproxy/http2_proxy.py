"""Requests that came over HTTP/2 go to the container over HTTP/2, as Knative has it; trailers included."""

from __future__ import annotations

import asyncio
import os

from ladle.log import get_logger
from ladle.server.http.messages import Header, Request, Response, text
from ladle.server.http2.client import ClientStream, Http2Pool
from ladle.server.http2.connection import Http2Body
from ladle.server.http2.messages import RelayedResponse, request_headers_of
from runtimes.queueproxy.headers import request_headers

log = get_logger("runtimes.queueproxy")


class Http2ReverseProxy:
    """An http Handler that lets the container answer; 502 with the reason where it does not."""

    def __init__(self, host: str, port: int, tasks: asyncio.TaskGroup) -> None:
        self._address = f"{host}:{port}"
        self._pool = Http2Pool(host, port)
        self._tasks = tasks

    async def __call__(self, request: Request) -> Response:
        try:
            connection = await self._pool.connection()
            body = request.stream
            assert isinstance(body, Http2Body), "only for requests that came over HTTP/2"
            stream = connection.begin(_headers_for_container(request), end_stream=body.spent)
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
        if stream.ended and not stream.body.unread and stream.trailers is None:
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
