"""Says in which version of HTTP each request came: 1.1, or 2.0 with prior knowledge, on one port."""

from __future__ import annotations

import asyncio
import os
from typing import cast

import h2.config
import h2.connection
import h2.events

PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
"""Beginning of RFC 9113's connection preface."""
HEAD_END = b"\r\n\r\n"


class Conversation(asyncio.Protocol):
    """One connection; requests have no bodies."""

    def __init__(self) -> None:
        self._received = b""
        self._http2: h2.connection.H2Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._http2 is None and self._received.startswith(PREFACE):
            self._http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            self._http2.initiate_connection()
        if self._http2 is None:
            self._answer_http1()
        else:
            self._answer_http2(self._http2)

    def _answer_http1(self) -> None:
        while HEAD_END in self._received and not self._received.startswith(PREFACE[:3]):
            _, _, self._received = self._received.partition(HEAD_END)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nHTTP/1.1")

    def _answer_http2(self, http2: h2.connection.H2Connection) -> None:
        events, self._received = http2.receive_data(self._received), b""
        for event in events:
            if isinstance(event, h2.events.RequestReceived) and event.stream_id is not None:
                http2.send_headers(event.stream_id, [(":status", "200"), ("content-length", "8")])
                http2.send_data(event.stream_id, b"HTTP/2.0", end_stream=True)
        self._transport.write(http2.data_to_send())


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Conversation, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
