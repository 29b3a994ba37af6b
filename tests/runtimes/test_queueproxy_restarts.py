"""A container that is started again behind the sidecar: what comes meanwhile waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ladle.clock import SystemClock
from runtimes.queueproxy.dialing import Dialer
from tests.ladle.server.wire import ask
from tests.runtimes.foreign import busy, idle, sidecar
from tests.waiting import eventually


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
    writer.close()


async def listen(port: int) -> asyncio.Server:
    return await asyncio.start_server(greet, "127.0.0.1", port)


async def test_a_request_waits_for_a_container_that_starts_again(unused_tcp_port: int) -> None:
    async with sidecar(unused_tcp_port) as proxy:
        first = await listen(unused_tcp_port)
        assert (await ask(proxy.http_port, "POST", "/", b"one")).text == "hello"
        first.close()
        await first.wait_closed()
        async with asyncio.TaskGroup() as group:
            held = group.create_task(ask(proxy.http_port, "POST", "/", b"two"))
            await eventually("it is held", lambda: busy(proxy))
            again = await listen(unused_tcp_port)
        assert (held.result().status, held.result().text) == (200, "hello")
        again.close()


async def test_a_client_that_goes_away_waits_no_longer(unused_tcp_port: int) -> None:
    async with sidecar(unused_tcp_port) as proxy:
        server = await listen(unused_tcp_port)
        assert (await ask(proxy.http_port, "GET", "/")).text == "hello"
        server.close()
        await server.wait_closed()
        async with asyncio.TaskGroup() as group:
            held = group.create_task(ask(proxy.http_port, "GET", "/"))
            await eventually("it is held", lambda: busy(proxy))
            held.cancel()
        await eventually("nobody is inside", lambda: idle(proxy))


def dialing(*outcomes: Exception | str) -> tuple[list[str], Callable[[], Awaitable[str]]]:
    """What was dialled, and a dial with these outcomes, the last of them from then on."""
    left, dialled = list(outcomes), []

    async def dial() -> str:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        dialled.append(repr(outcome))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return dialled, dial


async def test_one_that_never_listened_is_not_waited_for() -> None:
    dialled, dial = dialing(ConnectionRefusedError())
    with pytest.raises(ConnectionRefusedError):
        await Dialer(SystemClock()).connect(dial)
    assert len(dialled) == 1


async def test_one_that_stays_away_is_given_up() -> None:
    dialer = Dialer(SystemClock(), restart_s=0.2)
    dialled, dial = dialing("up", ConnectionRefusedError())
    assert await dialer.connect(dial) == "up"
    with pytest.raises(ConnectionRefusedError):
        await dialer.connect(dial)
    assert len(dialled) > 2


async def test_other_errors_are_told_at_once() -> None:
    dialer = Dialer(SystemClock())
    dialled, dial = dialing("up", ConnectionResetError())
    assert await dialer.connect(dial) == "up"
    with pytest.raises(ConnectionResetError):
        await dialer.connect(dial)
    assert len(dialled) == 2
