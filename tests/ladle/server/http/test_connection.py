"""The HTTP front end over real sockets: framing, order, limits, ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ladle.server.http.limits import HttpLimits
from ladle.server.http.messages import Request, Response
from ladle.server.http.server import SWEEP_PERIOD_S
from tests.ladle.server.http.conftest import Start
from tests.ladle.server.wire import ask, render, wire
from tests.waiting import eventually


def echo(request: Request) -> Response:
    body = f"{request.method} {request.path} ".encode() + bytes(request.body)
    return Response(200, body, content_type=b"text/plain")


class Gate:
    """A handler that answers when the test opens it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = 0
        self.cancelled = 0

    async def __call__(self, request: Request) -> Response:
        self.inside += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1
        return echo(request)


class TestFraming:
    async def test_a_connection_serves_many_requests(self, start: Start) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            for number in range(3):
                answer = await connection.request("POST", f"/{number}", b"body")
                assert answer.text == f"POST /{number} body"
                assert "connection" not in answer.headers
                assert answer.headers["date"].endswith("gmt")

    async def test_a_chunked_body_arrives_whole_and_its_trailers_are_dropped(self, start: Start) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.send(b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nHost: evil\r\n\r\n")
            assert (await connection.answer()).text == "POST / abcde"
            assert (await connection.request("GET", "/next")).text == "GET /next "

    async def test_pipelined_requests_are_answered_in_order(self, start: Start) -> None:
        gate = Gate()
        server = await start(lambda request: gate(request) if request.path == "/slow" else echo(request))
        async with wire(server.port) as connection:
            connection.send(render("GET", "/slow") + render("POST", "/b", b"2") + render("GET", "/c"))
            await eventually("the slow one runs", is_true(lambda: gate.inside))
            gate.open.set()
            assert [(await connection.answer()).text for _ in range(3)] == ["GET /slow ", "POST /b 2", "GET /c "]

    async def test_thousands_of_pipelined_requests_are_no_recursion(self, start: Start) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            connection.send(render("GET", "/") * 5000)
            for _ in range(5000):
                assert (await connection.answer()).status == 200

    async def test_expect_100_continue_is_answered_before_the_body(self, start: Start) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            connection.ask("POST", "/", None, expect="100-continue", content_length="4")
            assert (await connection.head())[0] == 100
            connection.send(b"body")
            assert (await connection.answer()).text == "POST / body"

    async def test_100_continue_waits_for_the_answers_before_it(self, start: Start) -> None:
        gate = Gate()
        server = await start(lambda request: gate(request) if request.path == "/slow" else echo(request))
        async with wire(server.port) as connection:
            connection.send(
                render("GET", "/slow") + render("POST", "/b", None, expect="100-continue", content_length="1")
            )
            await eventually("the slow one runs", is_true(lambda: gate.inside))
            gate.open.set()
            assert (await connection.answer()).text == "GET /slow "
            assert (await connection.head())[0] == 100
            connection.send(b"x")
            assert (await connection.answer()).text == "POST /b x"

    async def test_head_gets_the_headers_alone(self, start: Start) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            answer = await connection.request("HEAD", "/")
            assert (answer.headers["content-length"], answer.body) == ("7", b"")
            assert (await connection.request("GET", "/")).text == "GET / "

    @pytest.mark.parametrize(("wish", "kept"), [("close", False), ("keep-alive", True)])
    async def test_the_client_decides_whether_the_connection_stays(self, start: Start, wish: str, kept: bool) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            answer = await connection.request("GET", "/", connection=wish)
            assert answer.headers.get("connection") == (None if kept else "close")
            if not kept:
                assert await connection.closed() == b""

    @pytest.mark.parametrize(("extra", "ending"), [(b"", "close"), (b"Connection: keep-alive\r\n", "keep-alive")])
    async def test_http_1_0_closes_unless_asked(self, start: Start, extra: bytes, ending: str) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            connection.send(b"GET / HTTP/1.0\r\n" + extra + b"\r\n")
            answer = await connection.answer()
            assert (answer.text, answer.headers["connection"]) == ("GET / ", ending)

    async def test_an_upgrade_is_ignored_and_the_body_still_read(self, start: Start) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            answer = await connection.request("POST", "/", b"body", connection="Upgrade, HTTP2-Settings", upgrade="h2c")
            assert answer.text == "POST / body"
            assert (await connection.request("GET", "/next")).text == "GET /next "

    async def test_a_body_in_many_small_pieces_is_put_together(self, start: Start) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            for byte in render("POST", "/", b"0123456789"):
                connection.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await connection.answer()).text == "POST / 0123456789"

    async def test_a_bug_in_a_handler_is_a_500_and_the_connection_lives(
        self, start: Start, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async def later(request: Request) -> Response:
            raise RuntimeError("later")

        server = await start(lambda request: later(request) if request.path == "/later" else 1 / 0)  # type: ignore[arg-type,return-value]
        async with wire(server.port) as connection:
            assert (await connection.request("GET", "/now")).text == '{"error":"Internal server error"}'
            assert (await connection.request("GET", "/later")).status == 500
        assert "ZeroDivisionError" in capsys.readouterr().err


class TestRefusals:
    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
            (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
            (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            (b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
            (b"GET / HTTP/3.7\r\nHost: a\r\n\r\n", 400),
            (b"GET /\r\nHost: a\r\n\r\n", 505),
        ],
    )
    async def test_what_proxies_disagree_about_is_refused(self, start: Start, head: bytes, status: int) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            connection.send(head)
            answer = await connection.answer()
            assert answer.status == status
            assert answer.headers["connection"] == "close"
            assert await connection.closed() == b""

    async def test_requests_before_a_broken_one_are_answered(self, start: Start) -> None:
        gate = Gate()
        server = await start(gate)
        async with wire(server.port) as connection:
            connection.send(render("GET", "/good") + b"\0\0\0")
            await eventually("the good one runs", is_true(lambda: gate.inside))
            gate.open.set()
            assert (await connection.answer()).text == "GET /good "
            assert await connection.closed() == b""

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (render("GET", "/" + "x" * 200), 414),
            (render("GET", "/", None, big="x" * 600), 431),
            (render("GET", "/", None, **{f"h{number}": "x" for number in range(20)}), 431),
            (render("POST", "/", b"x" * 2000), 413),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000, 413),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nt: " + b"x" * 600 + b"\r\n\r\n",
                431,
            ),
        ],
    )
    async def test_limits_hold(self, start: Start, request_bytes: bytes, status: int) -> None:
        limits = HttpLimits(target_bytes_max=100, header_bytes_max=500, headers_max=10, body_bytes_max=1000)
        server = await start(echo, limits=limits)
        async with wire(server.port) as connection:
            connection.send(request_bytes)
            assert (await connection.answer()).status == status
            assert await connection.closed() == b""

    async def test_an_endless_header_is_cut_off(self, start: Start) -> None:
        server = await start(echo, limits=HttpLimits(header_bytes_max=1000))
        async with wire(server.port) as connection:
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            for _ in range(20):
                connection.send(b"x" * 100)
                await asyncio.sleep(0)
            assert (await connection.answer()).status == 431

    async def test_connections_past_the_limit_are_closed(self, start: Start) -> None:
        server = await start(echo, limits=HttpLimits(connections_max=1))
        async with wire(server.port) as first:
            assert (await first.request("GET", "/")).status == 200
            async with wire(server.port) as second:
                assert await second.closed() == b""


class TestSlowClients:
    """Limits of a fraction of a second; the sweep that enforces them runs about once a second."""

    @pytest.mark.parametrize(
        ("sent", "limits"),
        [
            (b"GET / HTTP/1.1\r\nHos", HttpLimits(header_timeout_s=0.05)),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab", HttpLimits(body_stall_s=0.05)),
        ],
    )
    async def test_a_request_that_does_not_come_on_is_a_408(
        self, start: Start, sent: bytes, limits: HttpLimits
    ) -> None:
        server = await start(echo, limits=limits)
        async with wire(server.port) as connection:
            connection.send(sent)
            assert (await connection.answer()).status == 408
            assert await connection.closed() == b""

    async def test_a_body_that_trickles_is_a_408(self, start: Start) -> None:
        server = await start(echo, limits=HttpLimits(body_stall_s=0.6, body_bytes_per_s_min=1000))
        async with wire(server.port) as connection:
            connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            answer = asyncio.ensure_future(connection.answer())

            async def trickle() -> bool:
                connection.send(b"x")
                return answer.done()

            await eventually("an answer", trickle)
            assert (await answer).status == 408

    async def test_an_idle_connection_is_closed(self, start: Start) -> None:
        server = await start(echo, limits=HttpLimits(keep_alive_s=0.05))
        async with wire(server.port) as connection:
            assert (await connection.request("GET", "/")).status == 200
            assert await connection.closed() == b""

    async def test_a_client_that_takes_nothing_is_dropped(self, start: Start) -> None:
        big = b"x" * 30_000_000
        server = await start(lambda request: Response(200, big), limits=HttpLimits(write_stall_s=0.05))
        async with wire(server.port) as connection:
            connection.ask("GET", "/")
            await eventually(
                "the server gives up", is_true(lambda: not server.connections), timeout_s=5 * SWEEP_PERIOD_S
            )


class TestStreams:
    @staticmethod
    def stream(*pieces: bytes, error: Exception | None = None) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece
            if error is not None:
                raise error

        return Response(200, content_type=b"text/event-stream", stream=body())  # type: ignore[arg-type]

    async def test_a_stream_is_chunked_and_the_connection_stays(self, start: Start) -> None:
        server = await start(lambda request: self.stream(b"one", b"", b"two"))
        async with wire(server.port) as connection:
            for _ in range(2):
                answer = await connection.request("GET", "/")
                assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", b"onetwo")

    async def test_to_http_1_0_a_stream_ends_with_the_connection(self, start: Start) -> None:
        server = await start(lambda request: self.stream(b"one", b"two"))
        async with wire(server.port) as connection:
            connection.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = await connection.answer()
            assert "transfer-encoding" not in answer.headers
            assert answer.body == b"onetwo"

    async def test_a_stream_that_breaks_off_is_not_taken_for_a_whole_one(self, start: Start) -> None:
        server = await start(lambda request: self.stream(b"one", error=RuntimeError("no more")))
        async with wire(server.port) as connection:
            connection.ask("GET", "/")
            assert b"0\r\n\r\n" not in await connection.closed()

    async def test_a_client_that_leaves_ends_the_stream(self, start: Start) -> None:
        closed = asyncio.Event()

        class Endless:
            def __aiter__(self) -> Endless:
                return self

            async def __anext__(self) -> bytes:
                await asyncio.sleep(0)
                return b"x" * 1000

            async def aclose(self) -> None:
                closed.set()

        server = await start(lambda request: Response(200, stream=Endless()))
        async with wire(server.port) as connection:
            connection.ask("GET", "/")
            await connection.head()
            connection.abort()
            await asyncio.wait_for(closed.wait(), 30)


class TestEnds:
    async def test_a_client_that_leaves_cancels_its_request(self, start: Start) -> None:
        gate = Gate()
        server = await start(gate)
        async with wire(server.port) as connection:
            connection.ask("GET", "/")
            await eventually("it runs", is_true(lambda: gate.inside))
            connection.close()
            await eventually("it is cancelled", is_true(lambda: gate.cancelled))

    async def test_draining_closes_idle_connections_and_finishes_busy_ones(self, start: Start) -> None:
        gate = Gate()
        server = await start(gate)
        async with wire(server.port) as idle, wire(server.port) as busy:
            busy.ask("GET", "/")
            await eventually("it runs", is_true(lambda: gate.inside))
            draining = asyncio.ensure_future(server.drain(10))
            assert await idle.closed() == b""
            with pytest.raises(ConnectionRefusedError):
                await ask(server.port, "GET", "/")
            gate.open.set()
            answer = await busy.answer()
            assert (answer.text, answer.headers["connection"]) == ("GET / ", "close")
            assert await draining

    async def test_draining_does_not_wait_longer_than_it_may(self, start: Start) -> None:
        gate = Gate()
        server = await start(gate)
        async with wire(server.port) as busy:
            busy.ask("GET", "/")
            await eventually("it runs", is_true(lambda: gate.inside))
            assert not await server.drain(0.05)

    async def test_an_upload_that_is_under_way_survives_the_drain(self, start: Start) -> None:
        server = await start(echo)
        async with wire(server.port) as connection:
            connection.ask("POST", "/", b"ab", content_length="4")
            await eventually("it began", is_true(lambda: not all(found.idle for found in server.connections)))
            draining = asyncio.ensure_future(server.drain(10))
            connection.send(b"cd")
            assert (await connection.answer()).text == "POST / abcd"
            assert await draining


def is_true(condition: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def probe() -> object:
        return condition()

    return probe
