"""gRPC through the sidecar: every kind of call, its statuses, what either side's end does to the other; and HTTP/2 at large."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.server.http2.client import ClientStream, Http2Pool
from ladle.server.http2.connection import STREAM_WINDOW_BYTES, Http2Body
from ladle.server.http2.first_bytes import PREFACE
from ladle.server.http2.goaway import GoAwayFilter, render_goaway
from runtimes.queueproxy.dialing import RESTART_S
from runtimes.queueproxy.readiness import ReadinessProbe
from tests.ladle.server.wire import ask
from tests.runtimes.foreign import busy, foreign_server, idle, sidecar
from tests.runtimes.foreign_grpc import DEADLINE_S, ForeignGrpc, behind_sidecar, channel, foreign_grpc, method
from tests.waiting import eventually


async def messages(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


class TestReadiness:
    """A probe of the kind grpc, as KServe's own gRPC servers have it."""

    LONG = "a service whose name is longer than one byte of protobuf's can say: " + "x" * 200

    @pytest.mark.parametrize(
        ("service", "ready"), [("", True), ("loaded", True), ("loading", False), ("unknown", False), (LONG, True)]
    )
    async def test_the_containers_health_service_is_asked(self, service: str, ready: bool) -> None:
        async with foreign_grpc() as foreign:
            foreign.health = {"": True, "loaded": True, "loading": False, self.LONG: True}
            assert await self.ready(foreign.port, service) is ready

    async def test_a_server_without_it_is_not_ready(self) -> None:
        with foreign_server() as foreign:
            assert not await self.ready(foreign.server_port, "")

    async def ready(self, port: int, service: str) -> bool:
        """What the kubelet hears from the sidecar."""
        async with sidecar(port, ReadinessProbe(service=service, period_s=1, timeout_s=DEADLINE_S)) as proxy:
            headers = {"user-agent": "kube-probe/1.32", "k-network-probe": "queue"}
            return (await ask(proxy.http_port, "GET", "/", None, **headers)).status == 200


class TestCalls:
    async def test_a_call_with_metadata_both_ways(self) -> None:
        async with behind_sidecar() as (foreign, proxy, client):
            call = client.unary_unary(method("Echo"))(b"hello", timeout=DEADLINE_S, metadata=(("x-mine", "1"),))
            assert await call == b"hello"
            assert dict(await call.initial_metadata())["x-initial"] == "1"
            assert dict(await call.trailing_metadata())["x-trailing"] == "2"
            await eventually("it left", lambda: idle(proxy))
            assert proxy.queue_proxy.stats.report(1e9).request_count == 1
        assert (foreign.metadata[0]["x-mine"], foreign.metadata[0]["x-forwarded-for"]) == ("1", "127.0.0.1")

    async def test_streams_in_each_direction(self) -> None:
        async with behind_sidecar() as (_, _, client):
            numbers = client.unary_stream(method("Count"))(b"100", timeout=DEADLINE_S)
            assert [number async for number in numbers] == [b"%d" % number for number in range(100)]
            join = client.stream_unary(method("Join"))
            assert await join(messages(b"a", b"b", b"c"), timeout=DEADLINE_S) == b"abc"

    async def test_a_conversation(self) -> None:
        async with behind_sidecar() as (_, proxy, client):
            call = client.stream_stream(method("Talk"))(timeout=DEADLINE_S)
            for word in (b"one", b"two"):
                await call.write(word)
                assert await call.read() == b"you said " + word
                assert proxy.queue_proxy.stats.concurrency == 1
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            await eventually("it left", lambda: idle(proxy))

    @pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
    async def test_messages_larger_than_every_window(self, size: int) -> None:
        async with behind_sidecar() as (_, _, client):
            assert len(await client.unary_unary(method("Echo"))(bytes(size), timeout=DEADLINE_S)) == size

    async def test_many_at_once_on_one_connection(self) -> None:
        async with behind_sidecar() as (_, proxy, client):
            echo = client.unary_unary(method("Echo"))
            answers = await asyncio.gather(*(echo(b"%d" % number, timeout=DEADLINE_S) for number in range(300)))
            assert answers == [b"%d" % number for number in range(300)]
            await eventually("they left", lambda: idle(proxy))

    async def test_a_client_that_does_not_read_holds_the_container_up(self) -> None:
        """Else the proxy's memory would hold what the client does not take."""
        async with behind_sidecar() as (foreign, _, client):
            call = client.unary_stream(method("Flood"))(b"400", timeout=DEADLINE_S)
            assert len(await call.read()) == 256 * 1024
            held = await settled(foreign)
            assert held * 256 * 1024 < 60 * STREAM_WINDOW_BYTES
            for _ in range(399):
                assert len(await call.read()) == 256 * 1024
            assert await call.read() is grpc.aio.EOF


async def settled(foreign: ForeignGrpc) -> int:
    """How many messages were sent when none has been for a while."""
    before, calm = -1, 0

    async def no_more() -> bool:
        nonlocal before, calm
        calm = calm + 1 if foreign.sent == before else 0
        before = foreign.sent
        return calm >= 25

    await eventually("the container is held up", no_more)
    return before


class TestStatuses:
    async def test_an_error_of_the_container_is_the_clients(self) -> None:
        async with behind_sidecar() as (_, _, client):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary(method("Fail"))(b"", timeout=DEADLINE_S)
            assert (caught.value.code(), caught.value.details()) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "not today: 100 %, ä",
            )
            assert dict(caught.value.trailing_metadata())["x-trailing"] == "2"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.unary_unary(method("Missing"))(b"", timeout=DEADLINE_S)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    async def test_of_twelve_with_one_slot_one_is_refused(self) -> None:
        async with behind_sidecar(container_concurrency=1) as (foreign, proxy, client):
            async with asyncio.TaskGroup() as group:
                wait = client.unary_unary(method("Wait"))
                calls = [group.create_task(outcome(wait(b"late", timeout=DEADLINE_S))) for _ in range(12)]
                await eventually("one was refused", lambda: counted(sum(task.done() for task in calls), 1))
                assert foreign.inside == 1
                foreign.release.set()
            answers = sorted(task.result() for task in calls)
            assert answers == ["UNAVAILABLE pending request queue full", *["late"] * 11]
            await eventually("nobody is inside", lambda: idle(proxy))

    @pytest.mark.parametrize("limit", ["timeout_s", "response_start_timeout_s", "idle_timeout_s"])
    async def test_a_late_answer_is_a_deadline_exceeded(self, limit: str) -> None:
        async with behind_sidecar(**{limit: 0.2}) as (foreign, proxy, client):
            call = client.unary_unary(method("Wait"))(b"", timeout=DEADLINE_S)
            assert await outcome(call) == "DEADLINE_EXCEEDED request timeout"
            await eventually("the container stops", lambda: counted(foreign.inside, 0))
            await eventually("nobody is inside", lambda: idle(proxy))

    async def test_a_stream_past_its_time_ends_with_the_same_status(self) -> None:
        async with behind_sidecar(timeout_s=1.5) as (foreign, _, client):
            call = client.unary_stream(method("Begin"))(b"", timeout=DEADLINE_S)
            assert await call.read() == b"begun"
            assert await outcome(call.read()) == "DEADLINE_EXCEEDED request timeout"
            await eventually("the container stops", lambda: counted(foreign.inside, 0))

    async def test_a_container_that_is_not_there(self, unused_tcp_port: int) -> None:
        async with sidecar(unused_tcp_port) as proxy, channel(proxy.http_port) as client:
            call = client.unary_unary(method("Echo"))(b"", timeout=DEADLINE_S)
            assert (
                await outcome(call) == f"UNAVAILABLE dial tcp 127.0.0.1:{unused_tcp_port}: connect: connection refused"
            )


async def outcome(call: object) -> str:
    """The answer, or the status and its message."""
    try:
        return (await call).decode()  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {error.details()}"


async def counted(found: int, wanted: int) -> bool:
    return found == wanted


@asynccontextmanager
async def raw_container(answer: Callable[[h2.connection.H2Connection, int, bool], None]) -> AsyncIterator[int]:
    """Lets `answer` deal with each request's headers: of which connection and stream they are, and whether they are all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        container = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        container.initiate_connection()
        writer.write(container.data_to_send())
        while data := await reader.read(65536):
            for event in container.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    answer(container, event.stream_id, event.stream_ended is not None)
            writer.write(container.data_to_send())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


FIELDS = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"test"), (b":path", b"/t/Missing")]
GRPC_HEAD = [(":status", "200"), ("content-type", "application/grpc")]


def refuse_at_once(container: h2.connection.H2Connection, stream_id: int, complete: bool) -> None:
    """As gRPC's core does with a method that it does not know: its message may come later."""
    container.send_headers(stream_id, [*GRPC_HEAD, ("grpc-status", "12")], end_stream=True)
    if not complete:
        container.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)


def break_off_strangely(container: h2.connection.H2Connection, stream_id: int, complete: bool) -> None:
    container.send_headers(stream_id, GRPC_HEAD)
    container.reset_stream(stream_id, 0x99)


async def whole_answer(stream: ClientStream) -> bytes:
    await stream.head
    return b"".join([piece async for piece in stream.body])


class TestStrangeEnds:
    async def test_a_code_that_nobody_knows_breaks_one_call_off(self) -> None:
        async with (
            raw_container(break_off_strangely) as port,
            sidecar(port, h2c=True) as proxy,
            channel(proxy.http_port) as client,
        ):
            for _ in range(3):
                call = client.unary_unary(method("Echo"))(b"message", timeout=DEADLINE_S)
                assert (await outcome(call)).split()[0] in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED")
            await eventually("nobody is inside", lambda: idle(proxy))

    async def test_an_answer_that_breaks_off_behind_its_headers_is_no_whole_one(self) -> None:
        async with raw_container(break_off_strangely) as port, sidecar(port, h2c=True) as proxy:
            connection = await Http2Pool("127.0.0.1", proxy.http_port).connection()
            stream = connection.begin(FIELDS, end_stream=True)
            with pytest.raises(ConnectionResetError):
                await whole_answer(stream)
            connection.abort()

    async def test_a_call_that_is_refused_at_its_headers_hears_that(self) -> None:
        async with (
            raw_container(refuse_at_once) as port,
            sidecar(port, h2c=True) as proxy,
            channel(proxy.http_port) as client,
        ):
            for _ in range(20):
                answer = await outcome(client.unary_unary(method("Missing"))(b"message", timeout=DEADLINE_S))
                assert answer.startswith("UNIMPLEMENTED")

    async def test_a_message_for_a_stream_that_has_ended_is_dropped(self) -> None:
        """It used to end the sidecar, where it came between the answer and whoever reads that."""
        async with raw_container(refuse_at_once) as port:
            connection = await Http2Pool("127.0.0.1", port).connection()
            stream = connection.begin(FIELDS, end_stream=False)
            assert (b"grpc-status", b"12") in await stream.head
            message = Http2Body(lambda _: None)
            message.feed(b"late")
            message.end()
            await stream.send(message)
            assert connection.open
            assert (b"grpc-status", b"12") in await connection.begin(FIELDS, end_stream=True).head
            connection.abort()


class TestEnds:
    async def test_a_client_that_cancels_stops_the_container(self) -> None:
        async with behind_sidecar(container_concurrency=1) as (foreign, proxy, client):
            call = client.unary_unary(method("Wait"))(b"", timeout=DEADLINE_S)
            await eventually("it is inside", lambda: counted(foreign.inside, 1))
            call.cancel()
            await eventually("the container stops", lambda: counted(foreign.inside, 0))
            await eventually("nobody is inside", lambda: idle(proxy))
            assert await client.unary_unary(method("Echo"))(b"next", timeout=DEADLINE_S) == b"next"

    async def test_a_clients_deadline_reaches_the_container(self) -> None:
        async with behind_sidecar() as (foreign, proxy, client):
            call = client.unary_unary(method("Wait"))(b"", timeout=0.3)
            assert (await outcome(call)).startswith("DEADLINE_EXCEEDED")
            await eventually("the container stops", lambda: counted(foreign.inside, 0))
            await eventually("nobody is inside", lambda: idle(proxy))

    async def test_a_client_that_vanishes_in_the_middle_of_a_stream(self) -> None:
        async with foreign_grpc() as foreign, sidecar(foreign.port) as proxy:
            async with channel(proxy.http_port) as client:
                call = client.unary_stream(method("Begin"))(b"", timeout=DEADLINE_S)
                assert await call.read() == b"begun"
                await eventually("it counts", lambda: busy(proxy))
            await eventually("nobody is inside", lambda: idle(proxy))
            await eventually("the container stops", lambda: counted(foreign.inside, 0))

    async def test_a_container_that_dies_in_the_middle_breaks_the_answer_off(self) -> None:
        async with behind_sidecar() as (foreign, proxy, client):
            call = client.unary_stream(method("Begin"))(b"", timeout=DEADLINE_S)
            assert await call.read() == b"begun"
            await foreign.server.stop(0)
            assert (await outcome(call.read())).split()[0] in ("UNAVAILABLE", "CANCELLED", "INTERNAL")
            await eventually("nobody is inside", lambda: idle(proxy))

    async def test_a_container_that_says_goaway_finishes_what_it_began(self) -> None:
        async with behind_sidecar() as (foreign, _, client):
            begun = client.unary_stream(method("Begin"))(b"", timeout=DEADLINE_S)
            assert await begun.read() == b"begun"
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(foreign.server.stop(DEADLINE_S))
                late = client.unary_unary(method("Echo"))

                async def refused() -> bool:
                    # gRPC's core may leave one that comes in the moment of the stop without an answer. For the others the
                    # sidecar waits as long as a container may take to start again.
                    return "UNAVAILABLE" in await outcome(late(b"", timeout=2 * RESTART_S))

                await eventually("it takes nothing new", refused, timeout_s=60)
                foreign.release.set()
                assert await begun.read() == b"ended"
                assert await begun.read() is grpc.aio.EOF
                await stopping

    async def test_a_drain_finishes_what_was_begun_and_takes_nothing_new(self) -> None:
        async with behind_sidecar(drain_quiet_s=0.0) as (foreign, proxy, client):
            begun = client.unary_stream(method("Begin"))(b"", timeout=DEADLINE_S)
            assert await begun.read() == b"begun"
            async with asyncio.TaskGroup() as group:
                draining = group.create_task(proxy.drain(DEADLINE_S))
                await eventually("it drains", lambda: counted(int(proxy._http2.draining), 1))
                foreign.release.set()
                assert await begun.read() == b"ended"
                assert await begun.read() is grpc.aio.EOF
                await draining
            assert (await outcome(client.unary_unary(method("Echo"))(b"", timeout=2.0))).split()[0] in (
                "UNAVAILABLE",
                "DEADLINE_EXCEEDED",
            )

    async def test_bytes_that_are_no_http_2_end_the_connection_alone(self) -> None:
        async with behind_sidecar() as (_, proxy, client):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http_port)
            writer.write(
                PREFACE + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00"
            )  # A window grows by nothing.
            async with asyncio.timeout(DEADLINE_S):
                assert b"\x07" in await reader.read()  # Settings, then a GOAWAY.
            writer.close()
            assert await client.unary_unary(method("Echo"))(b"fine", timeout=DEADLINE_S) == b"fine"


async def test_probes_and_http_1_share_the_port() -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed on this machine")
    async with foreign_grpc() as foreign, sidecar(foreign.port) as proxy:
        for version in ("--http2-prior-knowledge", "--http1.1"):
            arguments = [
                "-sS",
                version,
                "-A",
                "kube-probe/1.32",
                "-H",
                "K-Network-Probe: queue",
                "-w",
                "%{http_version}",
            ]
            process = await asyncio.create_subprocess_exec(
                "curl", *arguments, f"http://127.0.0.1:{proxy.http_port}/", stdout=asyncio.subprocess.PIPE
            )
            out, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
            if process.returncode == 2 and version.startswith("--http2"):
                continue  # This curl knows no HTTP/2.
            assert out == (b"queue2" if version.startswith("--http2") else b"queue1.1")


FRAMES = st.lists(st.one_of(st.integers(0, 2**31 - 1), st.binary(max_size=40)), max_size=6)


@given(FRAMES, st.lists(st.integers(1, 30), max_size=20), st.booleans())
def test_a_goaway_is_found_wherever_the_bytes_are_cut(
    frames: list[int | bytes], cuts: list[int], from_client: bool
) -> None:
    sent = [PREFACE] if from_client else []
    for frame in frames:
        sent.append(render_goaway(frame) if isinstance(frame, int) else data_frame(frame))
    stream, split = b"".join(sent), GoAwayFilter(after_preface=from_client)
    found: list[int] = []
    passed = b""
    for cut in [*cuts, len(stream)]:
        piece, stream = stream[:cut], stream[cut:]
        for part in split.feed(piece):
            if isinstance(part, int):
                found.append(part)
            else:
                passed += part
    assert found == [frame for frame in frames if isinstance(frame, int)]
    kept = [frame for frame in frames if isinstance(frame, bytes)]
    assert passed == (PREFACE if from_client else b"") + b"".join(map(data_frame, kept))


def data_frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + b"\x00\x00\x00\x00\x00\x01" + payload
