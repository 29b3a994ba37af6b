"""Two parsers that disagree about where a request ends are how requests are smuggled.

Streams of requests, good and damaged, go through our front end and through h11. What ours accepts must be exactly what h11
accepts; ours may refuse more, and says so here by name. How the bytes are cut into reads must not matter.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass
from typing import cast

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from ladle.clock import SystemClock
from ladle.server.http.application import Dispatcher
from ladle.server.http.connection import Connection
from ladle.server.http.messages import Request, Response
from ladle.server.http.server import HttpServer

EXAMPLES = 300


@dataclass(frozen=True)
class Seen:
    """What an application would act on."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class SilentTransport:
    """Takes answers and reports itself open until the connection closes it."""

    def __init__(self) -> None:
        self.written = b""
        self.open = True

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, data: list[bytes]) -> None:
        self.written += b"".join(data)

    def close(self) -> None:
        self.open = False

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.open = False

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def seen_by_ours(reads: list[bytes]) -> tuple[list[Seen], bytes]:
    """The requests that reach the application, and the last status line if it is a refusal."""
    seen: list[Seen] = []

    def handler(request: Request) -> Response:
        headers = meaningful(request.raw_headers)
        seen.append(Seen(request.method, request.target, headers, bytes(request.body)))
        return Response(200)

    async def run() -> bytes:
        async with asyncio.TaskGroup() as tasks:
            server = HttpServer(Dispatcher(handler, tasks), tasks, clock=SystemClock())
            connection, transport = Connection(server), SilentTransport()
            connection.connection_made(cast("asyncio.BaseTransport", transport))
            for read in reads:
                if transport.open:
                    connection.data_received(read)
            server.close()
            return transport.written

    return seen, asyncio.run(run())


def meaningful(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """The headers without those of an upgrade, which ours takes out, since it never upgrades."""
    return tuple(header for header in headers if header[0] not in (b"connection", b"upgrade"))


def seen_by_h11(stream: bytes) -> list[Seen]:
    connection, seen = h11.Connection(h11.SERVER), []
    connection.receive_data(stream)
    while True:
        try:
            one = next_request(connection)
        except h11.RemoteProtocolError:
            return seen
        if one is None:
            return seen
        seen.append(one)
        if connection.their_state is h11.MUST_CLOSE:
            return seen
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            return seen
        connection.start_next_cycle()


def next_request(connection: h11.Connection) -> Seen | None:
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED):
            return None
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            headers = meaningful([(name.lower(), value) for name, value in request.headers.raw_items()])
            return Seen(request.method.decode(), request.target, headers, body)
        else:
            return None


def tolerated(stream: bytes) -> bytes:
    """The stream without the one thing that our parser takes and h11 does not: several spaces in a request line."""
    return re.sub(rb"(?m)^([A-Z]+) +(\S+) +(HTTP/1\.[01])\r$", rb"\1 \2 \3\r", stream)


NAMES = st.sampled_from([b"Accept", b"X-Thing", b"x-other", b"Cookie"])
VALUES = st.text(st.sampled_from("abc ,;=/0"), max_size=8).map(lambda text: text.strip().encode())
EXTRA = st.lists(st.tuples(NAMES, VALUES), max_size=3)
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS"])
TARGETS = st.sampled_from([b"/", b"/v2/models/m/infer", b"/a?b=c&d", b"/%2e%2e/x", b"*"])


def chunked(body: bytes, sizes: list[int]) -> bytes:
    encoded = b""
    for size in sizes:
        piece, body = body[:size], body[size:]
        if piece:
            encoded += b"%x\r\n%b\r\n" % (len(piece), piece)
    if body:
        encoded += b"%X;name=value\r\n%b\r\n" % (len(body), body)
    return encoded + b"0\r\n\r\n"


@st.composite
def good_requests(draw: st.DrawFn) -> bytes:
    body = draw(st.binary(max_size=40))
    head = [b"%b %b HTTP/1.1" % (draw(METHODS), draw(TARGETS)), b"Host: a"]
    head += [b"%b: %b" % header for header in draw(EXTRA)]
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        head.append(b"Content-Length: %d" % len(body))
    elif framing == "chunked":
        head.append(b"Transfer-Encoding: chunked")
        body = chunked(body, draw(st.lists(st.integers(1, 9), max_size=4)))
    else:
        body = b""
    return b"\r\n".join(head) + b"\r\n\r\n" + body


ODD_LINES = st.sampled_from(
    [
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: \x0bchunked",
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: 05",
        b"Content-Length: -1",
        b"Content-Length: 0x5",
        b"Content-Length: 5 ",
        b"Content-Length:",
        b"Host: b",
        b" folded",
        b"\x00: x",
        b"X: a\rb",
        b"Connection: close",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
    ]
)
BODIES = st.sampled_from(
    [b"", b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello!\r\n0\r\n\r\n"]
)


@st.composite
def odd_requests(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1 ", b"http/1.1", b"HTTP/2.0"]))
    lines = [b"%b %b %b" % (draw(METHODS), draw(TARGETS), version), b"Host: a"]
    lines += draw(st.lists(ODD_LINES, max_size=3))
    ending = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]))
    return ending.join(lines) + ending * 2 + draw(BODIES)


@st.composite
def damaged_streams(draw: st.DrawFn) -> bytes:
    stream = bytearray(b"".join(draw(st.lists(good_requests() | odd_requests(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(stream) - 1))
        stream[place] = draw(st.sampled_from(list(b"\r\n\x00 :,;0a\xff\t")))
    return bytes(stream)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges) if start < end]


CUTS = st.lists(st.integers(0, 10_000), max_size=6)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(good_requests(), min_size=1, max_size=4), CUTS)
def test_good_requests_are_all_seen_as_h11_sees_them(requests: list[bytes], places: list[int]) -> None:
    stream = b"".join(requests)
    seen, written = seen_by_ours(cut(stream, places))
    assert seen == seen_by_h11(stream)
    assert len(seen) == len(requests)
    assert written.count(b"HTTP/1.1 200 OK") == len(requests)


@settings(max_examples=3 * EXAMPLES, deadline=None)
@given(damaged_streams())
def test_nothing_is_accepted_that_h11_reads_differently(stream: bytes) -> None:
    seen, _ = seen_by_ours([stream])
    assert seen == seen_by_h11(tolerated(stream))[: len(seen)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(damaged_streams(), CUTS)
def test_how_the_bytes_arrive_does_not_matter(stream: bytes, places: list[int]) -> None:
    whole, pieces = seen_by_ours([stream]), seen_by_ours(cut(stream, places))
    assert whole[0] == pieces[0]
