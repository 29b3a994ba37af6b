"""Probes against real sockets."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from controller.base.clock import SystemClock
from onebox.node.grpc_health import build_check
from onebox.node.probe_run import Target, build_request, keep_probing, perform
from onebox.node.probe_spec import Exec, GrpcCheck, HttpGet, Sleep, TcpSocket
from onebox.node.probing import Health, ProbeKind, initial_health
from onebox.processes import identify
from tests.onebox.node.builders import container, pod
from tests.ports import free_port
from tests.waiting import eventually, wait_for

Handle = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[int]:
    """A server that answers the head of each request with what `handle` makes of it."""

    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        handlers.add(handler)
        try:
            writer.write(await handle(await reader.readuntil(b"\r\n\r\n")))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for handler in handlers:  # One that still waits would outlive its loop.
        handler.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)


def answering(status: str) -> Handle:
    async def answer(_head: bytes) -> bytes:
        return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()

    return answer


def target(port: int = 1, cwd: Path = Path("/"), **fields: Any) -> Target:
    made = pod(container(ports=[{"containerPort": 8080, "name": "http"}], **fields)).containers[0]
    env = {"PATH": os.environ["PATH"], "WORD": "said"}
    return Target(container=made, ports={8080: port}, env=env, cwd=cwd)


@pytest.mark.parametrize(
    ("status", "passed"), [("200 OK", True), ("302 Found", True), ("404 No", False), ("503 Later", False)]
)
async def test_a_status_from_200_to_399_passes(status: str, passed: bool) -> None:
    async with serving(answering(status)) as port:
        outcome = await perform(HttpGet(port="http"), target(port), timeout_s=5)
    assert outcome.passed is passed
    assert passed or outcome.message == f"HTTP probe failed with statuscode: {status[:3]}"


async def test_what_a_server_is_asked() -> None:
    heads = []

    async def note(head: bytes) -> bytes:
        heads.append(head.decode())
        return b"HTTP/1.1 200 OK\r\n\r\n"

    async with serving(note) as port:
        handler = HttpGet(port=8080, path="/live?x=1", headers={"X-Mine": "a", "host": "other"})
        assert (await perform(handler, target(port), timeout_s=5)).passed
    assert heads[0].startswith("GET /live?x=1 HTTP/1.1\r\n")
    assert "\r\nUser-Agent: kube-probe/1.32\r\n" in heads[0]
    assert "\r\nX-Mine: a\r\n" in heads[0]
    assert "\r\nhost: other\r\n" in heads[0]
    assert heads[0].count("ost: ") == 1


def test_a_probe_of_a_server_with_the_queue_proxy_inside_says_whom_it_means() -> None:
    assert b"\r\nK-Network-Probe: queue\r\n" in build_request(HttpGet(port=1), 1, embedded=True)
    assert b"K-Network-Probe" not in build_request(HttpGet(port=1), 1, embedded=False)
    own = HttpGet(port=1, headers={"K-Network-Probe": "mine"})
    assert b"\r\nK-Network-Probe: mine\r\n" in build_request(own, 1, embedded=True)


async def test_failures_in_kubelets_words() -> None:
    closed = free_port()
    refused = await perform(HttpGet(port=8080, path="/x"), target(closed), timeout_s=5)
    assert refused.message == f'Get "http://127.0.0.1:{closed}/x": connect: connection refused'
    assert (await perform(TcpSocket(port=8080), target(closed), timeout_s=5)).message == (
        f"dial tcp 127.0.0.1:{closed}: connect: connection refused"
    )
    assert "has no port named grpc" in (await perform(TcpSocket(port="grpc"), target(), timeout_s=5)).message

    async def never(_head: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def nonsense(_head: bytes) -> bytes:
        return b"SSH-2.0\r\n"

    async with serving(never) as port:
        late = await perform(HttpGet(port=8080), target(port), timeout_s=0.05)
    assert late.message == f'Get "http://127.0.0.1:{port}/": context deadline exceeded'
    async with serving(nonsense) as port:
        assert "malformed HTTP response" in (await perform(HttpGet(port=8080), target(port), timeout_s=5)).message


async def test_a_port_that_is_open_passes() -> None:
    async with serving(answering("500 No")) as port:
        assert (await perform(TcpSocket(port=8080), target(port), timeout_s=5)).passed


async def test_sleeping_passes() -> None:
    assert (await perform(Sleep(seconds=0.001), target(), timeout_s=5)).passed


def python(code: str) -> Exec:
    return Exec(command=(sys.executable, "-c", code))


async def test_a_command_runs_where_the_container_does(tmp_path: Path) -> None:
    code = "import os; print(os.environ['WORD'], os.getcwd())"
    outcome = await perform(python(code), target(cwd=tmp_path), timeout_s=20)
    assert outcome.passed
    assert outcome.message == f"said {tmp_path}"


async def test_a_command_fails_by_its_exit_code_and_tells_its_output(tmp_path: Path) -> None:
    outcome = await perform(python("print('x' * 100_000); raise SystemExit(2)"), target(cwd=tmp_path), timeout_s=20)
    assert not outcome.passed
    assert outcome.message == "x" * 10240
    assert not (await perform(Exec(command=("/no/such",)), target(cwd=tmp_path), timeout_s=20)).passed


async def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("pids", "w").write(str(child.pid))
time.sleep(60)
"""
    pids = tmp_path / "pids"

    async with asyncio.TaskGroup() as group:
        probing = group.create_task(perform(python(code), target(cwd=tmp_path), timeout_s=60))
        await asyncio.to_thread(wait_for, "its pid", lambda: pids.exists() and pids.read_text())
        probing.cancel()
    await asyncio.to_thread(wait_for, "it is gone", lambda: identify(int(pids.read_text())) is None)


@asynccontextmanager
async def health_server(status: bytes | None) -> AsyncIterator[int]:
    """A real gRPC server whose health service answers these bytes, or has no health service."""

    class HealthService(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types.
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            if status is None or details.method != "/grpc.health.v1.Health/Check":
                return None

            async def check(request: bytes, _context: Any) -> bytes:
                return status if request in (b"", b"\x0a\x05model") else b"\x08\x03"

            return grpc.unary_unary_rpc_method_handler(check)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((HealthService(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("status", "service", "passed"),
    [
        (b"\x08\x01", "", True),
        (b"\x08\x01", "model", True),
        (b"\x08\x01", "other", False),
        (b"\x08\x02", "", False),
        (b"", "", False),
        (None, "", False),
    ],
)
async def test_grpc_health(status: bytes | None, service: str, passed: bool) -> None:
    async with health_server(status) as port:
        outcome = await perform(GrpcCheck(port=8080, service=service), target(port), timeout_s=10)
    assert outcome.passed is passed
    assert passed or outcome.message


async def test_a_server_without_http2_is_not_healthy() -> None:
    async with serving(answering("200 OK")) as port:
        assert not (await perform(GrpcCheck(port=8080), target(port), timeout_s=5)).passed


def test_service_names_have_a_limit() -> None:
    with pytest.raises(ValueError, match="at most 126"):
        build_check("x" * 200)


class Server:
    """An HTTP server whose answer changes."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.asked = 0

    async def __call__(self, _head: bytes) -> bytes:
        self.asked += 1
        return f"HTTP/1.1 {self.status}\r\n\r\n".encode()

    async def was_asked(self, times: int) -> None:
        async def often_enough() -> bool:
            return self.asked >= times

        await eventually(f"asked {times} times", often_enough)


@asynccontextmanager
async def probing(
    port: int, fields: dict[str, Any], known: Health | None = None
) -> AsyncIterator[asyncio.Queue[Health]]:
    healths: asyncio.Queue[Health] = asyncio.Queue(maxsize=100)
    aim = target(port, **fields)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        known = known or initial_health(aim.container)
        task = group.create_task(keep_probing(aim, known, healths.put_nowait, SystemClock()))
        yield healths
        task.cancel()


GET = {"httpGet": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
OFTEN: dict[str, Any] = {"readinessProbe": {**GET, "periodSeconds": 0.05}}


async def test_readiness_comes_and_goes_with_the_answers() -> None:
    server = Server("503 Later")
    async with serving(server) as port, probing(port, OFTEN) as healths:
        await server.was_asked(3)
        server.status = "200 OK"
        assert (await healths.get()).ready
        server.status = "503 Later"
        unready = await healths.get()
        assert not unready.ready
        assert unready.message == "HTTP probe failed with statuscode: 503"


async def test_nothing_else_is_probed_before_the_startup_probe_has_passed() -> None:
    server = Server("503 Later")
    fields = {"startupProbe": {**GET, "failureThreshold": 100}, "livenessProbe": GET, "readinessProbe": GET}
    async with serving(server) as port, probing(port, fields) as healths:
        await server.was_asked(3)
        assert healths.empty()
        server.status = "200 OK"
        assert await healths.get() == Health(started=True, ready=False)
        assert await healths.get() == Health(started=True, ready=True)


@pytest.mark.parametrize("kind", [ProbeKind.STARTUP, ProbeKind.LIVENESS])
async def test_a_probe_that_fails_for_good_ends_the_probing(kind: ProbeKind) -> None:
    async with serving(Server("503 Later")) as port, probing(port, {f"{kind}Probe": GET}) as healths:
        health = await healths.get()
    assert (health.failed, health.message) == (kind, "HTTP probe failed with statuscode: 503")


async def test_what_was_ready_before_stays_so_until_a_probe_fails() -> None:
    server = Server("200 OK")
    known = Health(started=True, ready=True)
    async with serving(server) as port, probing(port, OFTEN, known) as healths:
        await server.was_asked(3)
        assert healths.empty()
        server.status = "503 Later"
        assert not (await healths.get()).ready
