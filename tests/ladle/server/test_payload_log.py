"""The logger in the server's own process: KServe's recorded cases, and that no request ever waits for its events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ladle.clock import SystemClock
from ladle.server.http.application import Handler
from ladle.server.http.messages import Request, Response
from ladle.server.metrics import Counter, payload_event_counter
from ladle.server.model_server import serve
from ladle.server.options import ServerOptions
from ladle.server.payload_delivery import QUEUE_EVENTS_MAX, SENDERS
from ladle.server.payload_events import LogMode, PayloadLogSettings
from ladle.server.payload_log import EVENT_BYTES_MAX, PayloadLog
from ladle.server.queue_settings import BadSetting
from tests.ladle.server.models import SumModel
from tests.ladle.server.payload_cases import (
    GOLDEN,
    Replay,
    check,
    flags,
    listening,
    recorded,
    send,
    settings,
    sinking,
)
from tests.ladle.server.serving import served
from tests.ladle.server.wire import ask
from tests.waiting import eventually

ROWS = {"instances": [[1.0, 2.0]]}


class Logged:
    """A handler on a port, with a logger around it."""

    def __init__(self, port: int, log: PayloadLog, outcomes: Counter) -> None:
        self.port = port
        self.log = log
        self._outcomes = outcomes

    def count(self, outcome: str) -> int:
        return int(self._outcomes.value(outcome))

    async def counted(self, outcome: str, count: int) -> None:
        async def reached() -> bool:
            return self.count(outcome) >= count

        await eventually(f"{count} {outcome}", reached)


@contextlib.asynccontextmanager
async def logged(handler: Handler, chosen: PayloadLogSettings) -> AsyncIterator[Logged]:
    outcomes = payload_event_counter()
    async with asyncio.TaskGroup() as tasks:
        log = PayloadLog(chosen, outcomes, tasks, clock=SystemClock())
        try:
            async with listening(log.around(handler)) as port:
                yield Logged(port, log, outcomes)
        finally:
            log.delivery.close()


def hello(_: Request) -> Response:
    return Response(200, b"hello")


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")
@pytest.mark.parametrize("name", recorded())
async def test_recorded_case(name: str) -> None:
    case = recorded()[name]
    replay = Replay(case)
    async with sinking() as sink, logged(replay, settings(sink.port, name.split("-")[1])) as server:
        await check(case, await send(server.port, case), sink)
        await server.log.delivery.drain()  # Whatever else was told would have come by then.
        assert len(sink.events) == server.count("sent") == len(case["events"])
        assert set(sink.targets) <= {b"/sink?a=b"}


async def test_a_model_server_tells_by_the_flags_of_kserves_agent() -> None:
    async with sinking() as sink:
        words = [f"--{word[2:].replace('-', '_')}" if word.startswith("--") else word for word in flags(sink.port)]
        chosen = ServerOptions.parse(words, {}).payload_log
        async with served(SumModel("m"), payload_log=chosen) as app:
            answer = await app.v1("m", ROWS)
            assert answer.status == 200
            events = await sink.has(2)
            page = (await app.get("/metrics")).text
        assert sorted(event["headers"]["ce-type"].rpartition(".")[2] for event in events) == ["request", "response"]
        assert {event["body"].replace(" ", "") for event in events} == {'{"instances":[[1.0,2.0]]}', answer.text}
        assert 'ladle_payload_events_total{outcome="sent"} 2.0' in page


async def test_an_answer_in_pieces_is_one_event_when_it_is_whole() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async with sinking() as sink:
        handler: Handler = lambda _: Response(200, stream=Pieces(pieces()))  # noqa: E731  # A handler is a function.
        async with logged(handler, settings(sink.port, "response")) as server:
            assert (await ask(server.port, "GET", "/")).text == "one two"
            assert (await sink.has(1))[0]["body"] == "one two"


async def test_an_answer_that_breaks_off_is_no_event() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        raise ConnectionResetError("gone")

    async with sinking() as sink:
        handler: Handler = lambda _: Response(200, stream=Pieces(pieces()))  # noqa: E731  # As above.
        async with logged(handler, settings(sink.port, "response")) as server:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
                await ask(server.port, "GET", "/")
            await server.counted("dropped", 1)
            assert sink.events == []


async def test_a_sink_that_stands_still_delays_no_request_and_its_events_are_dropped_and_counted() -> None:
    asked = QUEUE_EVENTS_MAX + SENDERS + 20
    async with sinking() as sink, logged(hello, settings(sink.port, "request")) as server:
        sink.opened.clear()
        answers = [await ask(server.port, "GET", "/") for _ in range(asked)]
        assert {answer.status for answer in answers} == {200}
        # No more than fit; on a slow machine some deliveries have failed by now, and made room.
        assert 0 < server.count("dropped") <= asked - QUEUE_EVENTS_MAX
        sink.opened.set()

        async def all_counted() -> bool:
            return sum(server.count(outcome) for outcome in ("sent", "failed", "dropped")) == asked

        await eventually("every event is counted once", all_counted)
        assert server.count("sent") > 0


async def test_a_sink_that_is_away_or_refuses_is_counted_and_said(capfd: pytest.CaptureFixture[str]) -> None:
    async with sinking(status=503) as sink, logged(hello, settings(sink.port, "request")) as server:
        assert (await ask(server.port, "GET", "/")).status == 200
        await server.counted("failed", 1)
        port = sink.port
    assert "the sink answered 503" in capfd.readouterr().err
    async with logged(hello, settings(port, "request")) as server:
        assert (await ask(server.port, "GET", "/")).status == 200
        await server.counted("failed", 1)


async def test_a_body_that_is_too_long_is_dropped() -> None:
    async with sinking() as sink, logged(hello, settings(sink.port, "request")) as server:
        assert (await ask(server.port, "POST", "/", bytes(EVENT_BYTES_MAX + 1))).status == 200
        assert server.count("dropped") == 1


async def test_what_waits_when_the_server_ends_still_arrives() -> None:
    async with sinking() as sink, logged(hello, settings(sink.port, "request")) as server:
        for _ in range(30):
            await ask(server.port, "GET", "/")
        await server.log.delivery.drain()
        assert len(sink.events) == 30


async def test_what_is_under_way_when_the_server_is_closed_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    async with sinking() as sink:
        sink.opened.clear()
        async with logged(hello, settings(sink.port, "request")) as server:
            await ask(server.port, "GET", "/")
            await eventually("it is under way", sink.is_asked)
        assert server.count("dropped") == 1
        assert '"the server ended": 1' in capfd.readouterr().err


async def test_cluster_local_sinks_are_asked_through_the_gateway() -> None:
    async with sinking() as sink:
        gateway = {"LADLE_GATEWAY": f"127.0.0.1:{sink.port}"}
        chosen = PayloadLogSettings.parse([*flags(1), "--log-url", "http://dumper.default/"], gateway)
        assert chosen is not None
        async with logged(hello, chosen) as server:
            await ask(server.port, "GET", "/")
            await sink.has(1)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--log-url", "s3://bucket"], "--log-url = s3://bucket, must be http://HOST"),
        (["--log-url", "http://"], "--log-url = http://, must be"),
        (["--log-url", "http://x:99999/"], "--log-url"),
        (["--log-url", "http://x", "--log-mode", "some"], "--log-mode = some, must be one of all, request, response"),
        (["--log-url", "http://x", "--endpoint", "a\nb"], "endpoint"),
    ],
)
def test_flags_that_cannot_be_are_refused(words: list[str], wrong: str) -> None:
    with pytest.raises(BadSetting, match=wrong):
        PayloadLogSettings.parse(words, {})


def test_a_server_that_cannot_read_its_certificate_authorities_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADLE_TERMINATION_LOG", str(tmp_path / "last-words"))
    words = ["--log-url", "https://sink", "--logger-ca-cert-file", str(tmp_path / "none.pem")]
    chosen = PayloadLogSettings.parse(words, {})
    options = ServerOptions(host="127.0.0.1", http_port=0, admin_port=0, payload_log=chosen)
    assert serve(SumModel("m"), options=options) == 1
    assert f"--logger-ca-cert-file = {tmp_path}/none.pem: " in (tmp_path / "last-words").read_text()


def test_flags() -> None:
    assert PayloadLogSettings.parse(["--model_name", "m"], {}) is None
    words = [
        "--log-url",
        "http://x",
        "--metadata-headers",
        "x-team, X-REQUEST-ID",
        "--metadata-annotations",
        "a/b=c,d=e=f",
    ]
    chosen = PayloadLogSettings.parse([*words, "--source-uri", "", "--endpoint", ""], {"POD_NAME": "iris-0"})
    assert chosen is not None
    assert (chosen.mode, chosen.source, dict(chosen.attributes)) == (LogMode.ALL, "iris-0", {})
    assert chosen.metadata_headers == ("X-Team", "X-Request-Id")
    assert chosen.annotations == '{"a/b":"c","d":"e=f"}'


class Pieces:
    """A stream over a generator."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        piece: bytes = await anext(self._inner)
        return piece

    async def aclose(self) -> None:
        await self._inner.aclose()
