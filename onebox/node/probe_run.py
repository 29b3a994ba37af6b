"""Carries out one probe or hook against a container, and keeps probing a run until it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from controller.base.clock import Clock
from onebox.node.grpc_health import check_health
from onebox.node.ports import actual_port
from onebox.node.probe_spec import Exec, GrpcCheck, Handler, HttpGet, Probe, Sleep, TcpSocket
from onebox.node.probing import Health, ProbeKind, ProbeState, advance, interval_s
from onebox.node.process import RunningProcess, start_child
from onebox.node.spec import Container

HOST = "127.0.0.1"
USER_AGENT = "kube-probe/1.32"
"""Kubelet's; the queue-proxy tells health checks from traffic by its beginning."""
QUEUE_PROBE_HEADER = "K-Network-Probe"
LIVENESS_DELAY_S = 1.0
_HEAD_BYTES_MAX = 16 * 1024
"""Longest answer head that is read; a guess, twice what servers commonly allow."""
_OUTPUT_BYTES_MAX = 10 * 1024
"""Of an exec probe's output; kubelet's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the probes of one run of a container go."""

    container: Container
    ports: Mapping[int, int]
    env: Mapping[str, str]
    """Environment and directory of the container's process, for exec."""
    cwd: Path
    embedded: bool = False
    """The queue-proxy is in the server: it takes kubelet's probes for itself unless they carry its header."""


@dataclass(frozen=True, slots=True)
class Outcome:
    passed: bool
    message: str = ""


OnHealth = Callable[[Health], None]


class _Health:
    """The health of a run, told at each change."""

    def __init__(self, health: Health, on_health: OnHealth) -> None:
        self.now = health
        self._on_health = on_health

    def change(self, health: Health) -> None:
        if health != self.now:
            self.now = health
            self._on_health(health)


async def keep_probing(target: Target, health: Health, on_health: OnHealth, clock: Clock) -> None:
    """Probes a run until cancelled, or until its startup or liveness probe has failed; tells each change of `health`.

    `health` is what is known already: a container that was ready before this node came up stays so until a probe fails.
    """
    container, current = target.container, _Health(health, on_health)
    if container.startup is not None and not health.started:
        async for state, message in _results(ProbeKind.STARTUP, container.startup, target, clock, ProbeState()):
            if state.failed:
                current.change(replace(current.now, failed=ProbeKind.STARTUP, message=message))
                return
            if state.passed:
                break
        current.change(replace(current.now, started=True, ready=container.readiness is None))
    async with asyncio.TaskGroup() as group:
        if container.readiness is not None:
            group.create_task(_watch_readiness(container.readiness, target, clock, current))
        if container.liveness is not None:
            group.create_task(_watch_liveness(container.liveness, target, clock, current))


async def _watch_readiness(probe: Probe, target: Target, clock: Clock, current: _Health) -> None:
    known = ProbeState(passed=current.now.ready, once_passed=current.now.ready)
    async for state, message in _results(ProbeKind.READINESS, probe, target, clock, known):
        ready = state.passed
        # Each failed try says something a little different; only the one that made it unready is news.
        news = message if current.now.ready and not ready else current.now.message
        current.change(replace(current.now, ready=ready, message="" if ready else news))


async def _watch_liveness(probe: Probe, target: Target, clock: Clock, current: _Health) -> None:
    # Kubelet learns that a container runs, and begins to probe it, about a second after its start. To look earlier would
    # fail many a server that has only just begun.
    await asyncio.sleep(min(probe.period_s, LIVENESS_DELAY_S))
    async for state, message in _results(ProbeKind.LIVENESS, probe, target, clock, ProbeState(passed=True)):
        if state.failed:
            current.change(replace(current.now, failed=ProbeKind.LIVENESS, message=message))
            return


async def _results(
    kind: ProbeKind, probe: Probe, target: Target, clock: Clock, state: ProbeState
) -> AsyncIterator[tuple[ProbeState, str]]:
    await asyncio.sleep(probe.initial_delay_s)
    first_s = clock.monotonic_s()
    while True:
        outcome = await perform(probe.handler, target, timeout_s=probe.timeout_s)
        now_s = clock.monotonic_s()
        state = advance(state, probe, passed=outcome.passed, now_s=now_s)
        yield state, outcome.message
        await asyncio.sleep(interval_s(kind, state, probe, age_s=now_s - first_s))


async def perform(handler: Handler, target: Target, *, timeout_s: float) -> Outcome:
    """The outcome of one probe or hook; whatever goes wrong with it is a failure, in kubelet's words."""
    try:
        async with asyncio.timeout(timeout_s):
            match handler:
                case HttpGet():
                    return await _http_get(handler, target)
                case TcpSocket(port=port):
                    async with _connection(_address(target, port), tls=False):
                        return Outcome(True)
                case GrpcCheck(port=port, service=service):
                    async with _connection(_address(target, port), tls=False) as (reader, writer):
                        problem = await check_health(reader, writer, service)
                        return Outcome(not problem, problem)
                case Exec():
                    return await _execute(handler, target)
                case Sleep(seconds=seconds):
                    await asyncio.sleep(seconds)
                    return Outcome(True)
    except TimeoutError:
        return Outcome(False, f"{_name(handler, target)}: context deadline exceeded")
    except ConnectionRefusedError:
        return Outcome(False, f"{_name(handler, target)}: connect: connection refused")
    except (OSError, EOFError, ValueError) as error:
        return Outcome(False, f"{_name(handler, target)}: {error or type(error).__name__}")


def _name(handler: Handler, target: Target) -> str:
    if isinstance(handler, HttpGet):
        scheme = "https" if handler.tls else "http"
        return f'Get "{scheme}://{HOST}:{_port_text(target, handler.port)}{handler.path}"'
    if isinstance(handler, TcpSocket | GrpcCheck):
        return f"dial tcp {HOST}:{_port_text(target, handler.port)}"
    return "command timed out or could not be run"


def _port_text(target: Target, port: int | str) -> str:
    try:
        return str(_address(target, port))
    except ValueError:
        return str(port)


def _address(target: Target, port: int | str) -> int:
    return actual_port(target.container, port, target.ports)


@asynccontextmanager
async def _connection(port: int, *, tls: bool) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # As kubelet probes.
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, limit=_HEAD_BYTES_MAX)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # The server is done with us; nothing is left to be flushed.


async def _http_get(handler: HttpGet, target: Target) -> Outcome:
    port = _address(target, handler.port)
    async with _connection(port, tls=handler.tls) as (reader, writer):
        writer.write(build_request(handler, port, embedded=target.embedded))
        status_line = await reader.readline()
        version, _, rest = status_line.partition(b" ")
        if not version.startswith(b"HTTP/") or not rest[:3].isdigit():
            return Outcome(False, f"{_name(handler, target)}: malformed HTTP response {status_line[:80]!r}")
        status = int(rest[:3])
        if 200 <= status < 400:
            return Outcome(True)
        return Outcome(False, f"HTTP probe failed with statuscode: {status}")


def build_request(handler: HttpGet, port: int, *, embedded: bool) -> bytes:
    """The bytes of a probe's request; the probe's own headers win over kubelet's."""
    headers = {
        "host": ("Host", f"{HOST}:{port}"),
        "user-agent": ("User-Agent", USER_AGENT),
        "accept": ("Accept", "*/*"),
    }
    if embedded:
        headers[QUEUE_PROBE_HEADER.lower()] = (QUEUE_PROBE_HEADER, "queue")
    headers |= {name.lower(): (name, value) for name, value in handler.headers.items()}
    headers["connection"] = ("Connection", "close")
    lines = [f"GET {handler.path if handler.path.startswith('/') else '/' + handler.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.values()]
    return "\r\n".join([*lines, "", ""]).encode()


async def _execute(handler: Exec, target: Target) -> Outcome:
    with tempfile.TemporaryFile() as output:  # A pipe that nobody reads while it runs could fill, and block it.
        pid = start_child(handler.command, env=target.env, cwd=target.cwd, output=output.fileno())
        process = RunningProcess.of_child(pid)
        try:
            code = await process.ended()
        except asyncio.CancelledError:
            os.killpg(pid, signal.SIGKILL)  # Ours, and not reaped yet: the number is nobody else's.
            await process.ended()
            raise
        output.seek(0)
        return Outcome(code == 0, output.read(_OUTPUT_BYTES_MAX).decode(errors="replace").strip())
