"""Small GETs of JSON from servers of this machine, over connections that are kept.

An own client of a page, since the autoscaler asks every pod once a second for as long as it runs: that is the engine's cost
at rest, and a general client takes three times the CPU for each request (measured 2026-11: 88 µs against 30).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import httptools

from onebox.knative.endpoints import Address


async def connect(server: Address | Path, *, body_bytes_max: int) -> GetConnection:
    """A connection to a port or a unix socket; OSError where nobody listens. The caller limits the time."""
    loop = asyncio.get_running_loop()
    if isinstance(server, Path):
        _, connection = await loop.create_unix_connection(
            lambda: GetConnection("localhost", body_bytes_max), str(server)
        )
    else:
        _, connection = await loop.create_connection(
            lambda: GetConnection(str(server), body_bytes_max), server.host, server.port
        )
    return connection


class GetConnection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, host: str, body_bytes_max: int) -> None:
        self._host = host
        self._body_bytes_max = body_bytes_max
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[bytes] | None = None
        self._body = bytearray()
        self.closed = False

    async def get(self, target: str, headers: str = "") -> bytes:
        """The body of a 200 answer; ValueError for any other answer, OSError where the connection broke.

        `headers`: more of them, each with its end of line.
        """
        if self._transport is None or self.closed:
            raise ConnectionResetError("closed")
        assert self._answer is None, "one request at a time"
        self._answer = asyncio.get_running_loop().create_future()
        head = f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n{headers}\r\n"
        self._transport.write(head.encode())
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()  # The answer may still come, and must not be taken for that of the next request.
            raise
        finally:
            self._answer = None

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance.

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._fail(ConnectionResetError(f"{self._host} closed the connection: {exc or 'end of stream'}"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ValueError(str(error)))
            self.close()

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > self._body_bytes_max:
            self._fail(ValueError(f"more than {self._body_bytes_max} bytes"))
            self.close()

    def on_message_complete(self) -> None:
        body = bytes(self._body)
        self._body.clear()
        status = self._parser.get_status_code()
        if status != 200:
            self._fail(ValueError(f"status {status}: {body[:100]!r}"))
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(body)
        if not self._parser.should_keep_alive():
            self.close()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
