"""The queue-proxy in process: overload, timeouts, probes, counting, cancellation; to Knative's texts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ladle.clock import SystemClock
from ladle.server.http.messages import Request, Response
from ladle.server.http.server import HttpServer
from ladle.server.queue_proxy import QueueProxy
from ladle.server.queue_settings import QueueSettings
from tests.ladle.server.wire import Answer, Wire, ask, render, wire
from tests.waiting import eventually, wait_for

Begin = Callable[..., Awaitable["World"]]


class World:
    """A queue-proxy on a port, around a handler whose requests wait for `release`."""

    def __init__(self, tasks: asyncio.TaskGroup, settings: QueueSettings) -> None:
        self.inside: list[Request] = []
        self.release = asyncio.Event()
        self.cancelled = 0
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.stream_closed = False
        self.ready = True
        self.proxy = QueueProxy(self.handle, lambda: self.ready, tasks=tasks, settings=settings, clock=SystemClock())
        self.server = HttpServer(self.proxy, tasks, clock=SystemClock())

    @property
    def port(self) -> int:
        return self.server.port

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        if request.path == "/now":
            return Response(200, b"now")
        if request.path == "/stream":
            return Response(200, content_type=b"text/event-stream", stream=Pieces(self))
        return self.wait(request)

    async def wait(self, request: Request) -> Response:
        self.inside.append(request)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside.remove(request)
        return Response(200, b"late")

    async def entered(self, count: int) -> None:
        await eventually(f"{count} inside", holds(lambda: len(self.inside) == count))

    async def empty(self) -> None:
        await eventually(
            "nobody is inside", holds(lambda: not self.proxy.stats.concurrency and not self.proxy.breaker.running)
        )


class Pieces:
    def __init__(self, world: World) -> None:
        self._world = world

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._world.pieces.get()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        self._world.stream_closed = True


def send_together(connections: list[Wire], data: bytes) -> None:
    """Has all of it wait for the server before its loop, which is this one and stands still meanwhile, looks at any."""
    sockets = [connection.writer.get_extra_info("socket").fileno() for connection in connections]
    for number in sockets:
        assert os.write(number, data) == len(data)
    wait_for("everything has arrived", lambda: not any(unacknowledged(number) for number in sockets))


def unacknowledged(number: int) -> int:
    """Bytes that were sent on a socket, and that the other side's kernel has not got yet."""
    return int.from_bytes(fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def holds(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return condition()

    return probe


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    worlds: list[World] = []
    async with asyncio.TaskGroup() as tasks:

        async def start(**settings: float) -> World:
            world = World(tasks, QueueSettings(**settings))  # type: ignore[arg-type]
            worlds.append(world)
            await world.server.listen("127.0.0.1", 0)
            return world

        yield start
        for world in worlds:
            world.server.close()


class TestBreaker:
    async def test_of_thirty_at_once_two_run_twenty_wait_and_eight_are_refused(self, begin: Begin) -> None:
        world = await begin(container_concurrency=2)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(world.port, "GET", "/slow")) for _ in range(30)]
            await eventually("eight answers", holds(lambda: sum(task.done() for task in asked) == 8))
            assert len(world.inside) == 2
            assert world.proxy.breaker.queue_depth == 20
            world.release.set()
        answers = Counter((task.result().status, task.result().text) for task in asked)
        assert answers == {(200, "late"): 22, (503, "pending request queue full\n"): 8}
        await world.empty()

    async def test_without_a_limit_all_run(self, begin: Begin) -> None:
        world = await begin()
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(world.port, "GET", "/slow")) for _ in range(30)]
            await world.entered(30)
            world.release.set()
        assert {task.result().status for task in asked} == {200}

    async def test_a_client_that_leaves_frees_its_slot(self, begin: Begin) -> None:
        world = await begin(container_concurrency=1)
        async with wire(world.port) as leaver, wire(world.port) as stayer:
            leaver.ask("GET", "/first")
            await world.entered(1)
            stayer.ask("GET", "/second")
            await eventually("it waits", holds(lambda: world.proxy.breaker.queue_depth == 1))
            leaver.abort()
            await eventually("the next runs", holds(lambda: [seen.path for seen in world.inside] == ["/second"]))
            assert world.cancelled == 1
            world.release.set()
            assert (await stayer.answer()).text == "late"
        await world.empty()

    async def test_one_that_leaves_the_queue_harms_nobody(self, begin: Begin) -> None:
        world = await begin(container_concurrency=1)
        async with wire(world.port) as first, wire(world.port) as leaver, wire(world.port) as last:
            for connection, path in ((first, "/1"), (leaver, "/2"), (last, "/3")):
                connection.ask("GET", path)
            await eventually("two wait", holds(lambda: world.proxy.breaker.queue_depth == 2))
            leaver.abort()
            await eventually("one waits", holds(lambda: world.proxy.breaker.queue_depth == 1))
            world.release.set()
            assert [(await first.answer()).text, (await last.answer()).text] == ["late", "late"]
        await world.empty()


class TestTimeouts:
    @pytest.mark.parametrize("limit", ["timeout_s", "response_start_timeout_s", "idle_timeout_s"])
    async def test_a_late_first_byte_is_a_504(self, begin: Begin, limit: str) -> None:
        world = await begin(**{limit: 0.1})
        answer = await ask(world.port, "GET", "/slow")
        assert (answer.status, answer.text) == (504, "request timeout")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert world.cancelled == 1
        await world.empty()

    async def test_the_wait_in_the_queue_counts(self, begin: Begin) -> None:
        world = await begin(container_concurrency=1, timeout_s=0.3)
        async with wire(world.port) as first, wire(world.port) as second:
            first.ask("GET", "/1")
            await world.entered(1)
            second.ask("GET", "/2")
            assert (await second.answer()).status == 504
            assert (await first.answer()).status == 504
        await world.empty()

    async def test_a_stream_may_outlive_the_response_start_timeout(self, begin: Begin) -> None:
        world = await begin(response_start_timeout_s=0.1)
        async with wire(world.port) as connection:
            connection.ask("GET", "/stream")
            await connection.head()
            assert world.proxy.stats.concurrency == 1
            for piece in (b"one", None):
                world.pieces.put_nowait(piece)
            assert [chunk async for chunk in connection.chunks()] == [b"one"]
        await world.empty()

    @pytest.mark.parametrize("limit", ["timeout_s", "idle_timeout_s"])
    async def test_a_stream_that_takes_too_long_ends_in_the_text(self, begin: Begin, limit: str) -> None:
        world = await begin(**{limit: 0.2})
        async with wire(world.port) as connection:
            connection.ask("GET", "/stream")
            world.pieces.put_nowait(b"one")
            answer = await connection.answer()
            assert (answer.status, answer.body) == (200, b"onerequest timeout")
        assert world.stream_closed
        await world.empty()

    async def test_an_idle_timeout_starts_anew_with_each_piece(self, begin: Begin) -> None:
        world = await begin(idle_timeout_s=0.3)
        clock = SystemClock()
        began_s = clock.monotonic_s()
        async with wire(world.port) as connection:
            connection.ask("GET", "/stream")
            await connection.head()
            chunks = connection.chunks()
            while clock.monotonic_s() - began_s < 0.5:
                world.pieces.put_nowait(b"x")
                assert await anext(chunks) == b"x"
            world.pieces.put_nowait(None)
            assert [chunk async for chunk in chunks] == []

    async def test_a_slow_upload_is_a_504_too(self, begin: Begin) -> None:
        world = await begin(timeout_s=0.1)
        async with wire(world.port) as connection:
            connection.ask("POST", "/now", b"begun", content_length="100000")
            assert (await connection.answer()).status == 504
        await world.empty()


class TestProbes:
    async def probe(self, world: World, **headers: str) -> Answer:
        return await ask(world.port, "GET", "/now", None, **headers)

    @pytest.mark.parametrize("agent", ["kube-probe/1.32", "Knative-Activator-Probe"])
    async def test_a_health_check_hears_whether_the_container_is_ready(self, begin: Begin, agent: str) -> None:
        world = await begin()
        answer = await self.probe(world, user_agent=agent, K_Network_Probe="queue")
        assert (answer.status, answer.text, answer.headers["content-type"]) == (
            200,
            "queue",
            "text/plain; charset=utf-8",
        )
        world.ready = False
        answer = await self.probe(world, user_agent=agent, K_Network_Probe="queue")
        assert (answer.status, answer.text) == (503, "")
        assert world.proxy.stats.report(1e9).request_count == 0

    async def test_a_health_check_must_name_the_queue(self, begin: Begin) -> None:
        world = await begin()
        answer = await self.probe(world, user_agent="kube-probe/1.30")
        assert (answer.status, answer.text) == (400, "unexpected probe header value: \n")
        assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_the_ingress_gets_its_hash_back(self, begin: Begin) -> None:
        world = await begin()
        answer = await self.probe(
            world, user_agent="Knative-Ingress-Probe", K_Network_Probe="probe", K_Network_Hash="h"
        )
        assert (answer.status, answer.headers["k-network-hash"], answer.text) == (200, "h", "")
        assert (await self.probe(world, K_Network_Probe="probe")).status == 400

    @pytest.mark.parametrize("headers", [{"K_Network_Probe": "activator"}, {"K_Kubelet_Probe": "queue"}])
    async def test_other_probe_headers_are_ordinary_traffic(self, begin: Begin, headers: dict[str, str]) -> None:
        assert (await self.probe(await begin(), **headers)).text == "now"

    async def test_a_slow_prober_runs_once_for_all_who_ask(self, begin: Begin) -> None:
        world, runs, go = await begin(), [], asyncio.Event()

        async def prober() -> bool:
            runs.append(1)
            await go.wait()
            return True

        world.proxy._prober = prober
        headers = {"user_agent": "kube-probe/1", "K_Network_Probe": "queue"}
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self.probe(world, **headers)) for _ in range(5)]
            await eventually("all have come", holds(lambda: len(world.server.connections) == 5))
            go.set()
        assert {task.result().status for task in asked} == {200}
        assert len(runs) < 5


class TestCounting:
    async def test_a_request_counts_from_arrival_to_departure(self, begin: Begin) -> None:
        world = await begin(container_concurrency=1)
        stats, clock = world.proxy.stats, SystemClock()
        stats.report(clock.monotonic_s())
        async with wire(world.port) as first, wire(world.port) as second:
            first.ask("GET", "/1", K_Proxy_Request="activator")
            await world.entered(1)
            second.ask("GET", "/2")
            await eventually("both count", holds(lambda: stats.concurrency == 2))
            assert stats.proxied == 1
            world.release.set()
            await first.answer()
            await second.answer()
        report = stats.report(clock.monotonic_s())
        assert (report.request_count, report.proxied_request_count) == (2, 1)
        assert 0 < report.average_proxied_concurrency < report.average_concurrency < 2

    async def test_clients_that_wait_for_a_quick_model_are_counted(self, begin: Begin) -> None:
        """Were all requests answered where they are read, the server would always see one. The first may be: there is no
        sign yet that others wait."""
        world = await begin()
        peak = 0

        def quick(request: Request) -> Response:
            nonlocal peak
            peak = max(peak, world.proxy.stats.concurrency)
            return Response(200)

        world.proxy.handler = quick
        async with contextlib.AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(wire(world.port)) for _ in range(16)]
            await eventually("all are connected", holds(lambda: len(world.server.connections) == 16))
            send_together(connections, render("GET", "/"))
            for connection in connections:
                await connection.answer()
        assert peak >= 15

    async def test_refused_requests_count_as_arrivals(self, begin: Begin) -> None:
        world = await begin(container_concurrency=1)
        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(ask(world.port, "GET", "/slow"))
            await eventually("one was refused", holds(lambda: world.proxy.stats.concurrency == 11))
            world.release.set()
        assert world.proxy.stats.report(1e9).request_count == 12

    async def test_a_stream_counts_until_its_end(self, begin: Begin) -> None:
        world = await begin(container_concurrency=1)
        async with wire(world.port) as connection:
            connection.ask("GET", "/stream")
            await connection.head()
            assert world.proxy.breaker.running == 1
            connection.abort()
            await world.empty()
        assert world.stream_closed

    async def test_a_model_that_cancels_itself_is_an_error_and_no_leak(self, begin: Begin) -> None:
        world = await begin(container_concurrency=1)

        async def cancels(request: Request) -> Response:
            raise asyncio.CancelledError

        world.proxy.handler = cancels
        assert (await ask(world.port, "GET", "/")).status == 500
        await world.empty()


class TestDrain:
    async def test_probes_fail_requests_are_still_served_and_quiet_ends_it(self, begin: Begin) -> None:
        world = await begin(drain_quiet_s=0.3)
        clock = SystemClock()
        began_s = clock.monotonic_s()
        waiting = asyncio.ensure_future(world.proxy.drainer.wait())
        await eventually("it drains", holds(lambda: world.proxy.drainer.draining))
        answer = await ask(world.port, "GET", "/", user_agent="kube-probe/1", K_Network_Probe="queue")
        assert (answer.status, answer.text) == (503, "shutting down\n")
        assert (await ask(world.port, "GET", "/now")).text == "now"
        await waiting
        assert clock.monotonic_s() - began_s >= 0.3

    async def test_a_drain_that_no_sigterm_follows_is_called_off(self, begin: Begin) -> None:
        world = await begin(drain_quiet_s=0.0)
        world.proxy.drainer._reset_s = 0.05
        await world.proxy.drainer.wait()
        await eventually("it is called off", holds(lambda: not world.proxy.drainer.draining))
        await world.proxy.drainer.wait()
        world.proxy.drainer.finish()
        fired = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, fired.set)
        await fired.wait()
        assert world.proxy.drainer.draining
