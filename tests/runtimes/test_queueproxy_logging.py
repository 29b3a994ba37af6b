"""The logger of the sidecar, in front of servers that are not ours: KServe's recorded cases, and bodies in pieces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ladle.server.batch_queue import BatchSettings
from runtimes.queueproxy.sidecar import Sidecar, SidecarSettings
from tests.ladle.server.payload_cases import (
    GOLDEN,
    Replay,
    Sink,
    check,
    flags,
    listening,
    recorded,
    send,
    settings,
    sinking,
)
from tests.ladle.server.wire import ask, wire
from tests.runtimes.foreign import foreign_server, sidecar
from tests.waiting import eventually

PATH = "/v1/models/m:predict"


async def page(proxy: Sidecar) -> str:
    return (await ask(proxy.admin_port, "GET", "/prometheus")).text


@contextlib.asynccontextmanager
async def before_foreign(mode: str = "all", **options: Any) -> AsyncIterator[tuple[Sidecar, Sink]]:
    async with sinking() as sink:
        with foreign_server() as server:
            async with sidecar(server.server_port, payload_log=settings(sink.port, mode), **options) as proxy:
                yield proxy, sink


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")
@pytest.mark.parametrize("name", recorded())
async def test_recorded_case(name: str) -> None:
    case = recorded()[name]
    replay = Replay(case)
    async with sinking() as sink, listening(replay) as port:
        chosen = settings(sink.port, name.split("-")[1])
        async with sidecar(port, payload_log=chosen) as proxy:
            await check(case, await send(proxy.http_port, case), sink)
            assert replay.saw == case["service_saw"]
            expected = f'ladle_payload_events_total{{outcome="sent"}} {len(case["events"])}.0'

            async def counted() -> bool:
                return not case["events"] or expected in await page(proxy)

            await eventually(expected, counted)


async def test_a_body_in_pieces_is_one_event_and_reaches_the_container_in_pieces() -> None:
    async with before_foreign() as (proxy, sink), wire(proxy.http_port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        client.send(b"4\r\n two\r\n0\r\n\r\n")
        assert (await client.answer()).text == "one two"
        assert [event["body"] for event in await sink.has(2)] == ["one two", "one two"]


async def test_a_stream_is_passed_on_as_it_comes_and_told_when_it_ends() -> None:
    async with before_foreign("response") as (proxy, sink):
        answer = await ask(proxy.http_port, "GET", "/stream")
        assert answer.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert (await sink.has(1))[0]["body"] == answer.text


async def test_an_answer_that_breaks_off_is_counted_as_dropped() -> None:
    async with before_foreign("response") as (proxy, sink):
        with contextlib.suppress(asyncio.IncompleteReadError):
            await ask(proxy.http_port, "GET", "/broken")

        async def dropped() -> bool:
            return 'ladle_payload_events_total{outcome="dropped"} 1.0' in await page(proxy)

        await eventually("it is counted", dropped)
        assert sink.events == []


async def test_beside_a_batcher_each_client_has_its_own_events() -> None:
    batching = BatchSettings(max_size=2, max_latency_s=60.0, waits_when_idle=True)
    async with before_foreign(batching=batching) as (proxy, sink):
        bodies = [b'{"instances":[[%d]]}' % number for number in range(2)]
        await asyncio.gather(*(ask(proxy.http_port, "POST", PATH, body) for body in bodies))
        events = await sink.has(4)
        told = [event["body"] for event in events if event["headers"]["ce-type"].endswith("request")]
        assert sorted(told) == [body.decode() for body in bodies]
        assert len({event["headers"]["ce-id"] for event in events}) == 2


def test_the_agents_flags_are_understood() -> None:
    chosen = SidecarSettings.parse([*flags(80), "--enable-batcher", "--component-port", "8080"], {})
    assert chosen.payload_log is not None
    assert chosen.batching is not None
    assert SidecarSettings.parse([], {}).payload_log is None
