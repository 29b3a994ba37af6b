"""Batching by the sidecar, for V1 servers that are not ours: KServe's recorded cases, and nobody gets somebody else's row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle.server.batch_queue import BatchSettings
from ladle.server.queue_settings import BadSetting
from runtimes.queueproxy.sidecar import Sidecar, SidecarSettings
from tests.ladle.server.wire import Answer, ask, wire
from tests.runtimes.foreign import Foreign, foreign_server, sidecar
from tests.waiting import eventually

GOLDEN = Path(__file__).parents[2] / "../shared/golden/kserve/agent.yaml"
PATH = "/v1/models/m:predict"
PATHS = {
    "batcher-service-short": "/short:predict",
    "batcher-service-error": "/status/500",
    "batcher-other-path": "/v2/models/m/infer",
}
SIZES = {"batcher-4-fill": 4, "batcher-uneven": 5}
"""How many rows fill a batch where the recorded one was filled; the others waited."""


@pytest.fixture
def foreign() -> Iterator[ThreadingHTTPServer]:
    with foreign_server() as server:
        yield server


def filled(size: int) -> BatchSettings:
    """Waits for ever, or until there are so many rows."""
    return BatchSettings(max_size=size, max_latency_s=60.0, waits_when_idle=True)


def recorded() -> dict[str, Any]:
    cases = yaml.safe_load(GOLDEN.read_text()) if GOLDEN.exists() else {}
    return {name: case for name, case in cases.items() if name.startswith("batcher-")}


async def send(proxy: Sidecar, body: object, path: str = PATH, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(proxy.http_port, "POST", path, data, content_type="application/json", **headers)


async def in_order(proxy: Sidecar, bodies: list[bytes], path: str) -> list[Answer]:
    """All at once, each on a connection of its own, sent in this order."""
    async with asyncio.TaskGroup() as group:
        tasks = []
        for count, body in enumerate(bodies, 1):
            tasks.append(group.create_task(send(proxy, body, path)))
            await eventually("it was sent", lambda count=count: came(proxy, count, tasks))  # type: ignore[misc]
    return [task.result() for task in tasks]


async def came(proxy: Sidecar, count: int, tasks: list[asyncio.Task[Answer]]) -> bool:
    return proxy.queue_proxy.stats.concurrency >= count or any(task.done() for task in tasks)


def seen() -> list[list[Any]]:
    return [json.loads(request["body"])["instances"] for request in Foreign.saw]


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")
@pytest.mark.parametrize("name", recorded())
async def test_recorded_case(foreign: ThreadingHTTPServer, name: str) -> None:
    """Every case is KServe's to the letter; a batch reaches the container in the same form."""
    case = recorded()[name]
    settings = BatchSettings(max_size=SIZES.get(name, 2), max_latency_s=60.0, waits_when_idle=True)
    async with sidecar(foreign.server_port, batching=settings) as proxy:
        bodies = [answer["request"].encode() for answer in case["answers"]]
        answers = await in_order(proxy, bodies, PATHS.get(name, PATH))
    for answer, expected in zip(answers, case["answers"], strict=True):
        assert (answer.status, without_id(answer.text)) == (expected["status"], without_id(expected["body"]))
    assert [{"path": saw["path"], "body": saw["body"]} for saw in Foreign.saw] == case["service_saw"]


def without_id(body: str) -> Any:
    if not body.startswith("{"):
        return body
    return {**json.loads(body), "batchId": ""} if "batchId" in body else body


class TestRows:
    async def test_a_short_answer_is_an_error_for_all_and_nobody_elses_row(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port, batching=filled(2)) as proxy:
            answers = await asyncio.gather(*(send(proxy, {"instances": [[row]]}) for row in (1, "short")))
        assert {(answer.status, answer.text) for answer in answers} == {
            (500, '{"error":"the model answered 1 rows for a batch of 2"}')
        }

    async def test_an_error_is_that_of_its_own_request_only(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port, batching=filled(2)) as proxy:
            good, bad = await asyncio.gather(*(send(proxy, {"instances": [[row]]}) for row in (1, "bad")))
        assert (good.status, json.loads(good.body)["predictions"]) == (200, [0])
        assert (bad.status, bad.text) == (400, '{"error":"a bad row"}')

    async def test_paths_and_credentials_are_not_mixed(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port, batching=filled(2)) as proxy:
            await asyncio.gather(
                *(send(proxy, {"instances": [[n]]}, f"/v1/models/{n % 2}:predict") for n in range(4)),
                *(send(proxy, {"instances": [[n]]}, authorization=f"user {n % 2}") for n in range(4)),
            )
        assert sorted(saw["path"] for saw in Foreign.saw) == [
            "/v1/models/0:predict", "/v1/models/1:predict", PATH, PATH
        ]  # fmt: skip
        told = sorted(saw["headers"].get("authorization", "") for saw in Foreign.saw)
        assert told == ["", "", "user 0", "user 1"]

    async def test_a_request_with_more_than_rows_goes_alone_and_unchanged(self, foreign: ThreadingHTTPServer) -> None:
        body = b'{"instances": [[1]], "parameters": {"a": 1}}'
        async with sidecar(foreign.server_port, batching=filled(100)) as proxy:
            answer = await send(proxy, body)
        assert (answer.text, Foreign.saw[0]["body"]) == ('{"predictions": [0]}', body.decode())

    async def test_a_body_of_unknown_length_streams_through(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port, batching=filled(100)) as proxy, wire(proxy.http_port) as connection:
            connection.ask("POST", PATH, None, transfer_encoding="chunked")
            connection.send(b'11\r\n{"instances":[1]}\r\n0\r\n\r\n')
            assert (await connection.answer()).text == '{"predictions": [0]}'

    async def test_a_container_that_is_not_there_is_a_502_for_each(self, unused_tcp_port: int) -> None:
        async with sidecar(unused_tcp_port, batching=filled(2)) as proxy:
            answers = await asyncio.gather(*(send(proxy, {"instances": [[n]]}) for n in range(2)))
        assert [answer.status for answer in answers] == [502, 502]

    async def test_one_that_leaves_harms_no_other(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port, batching=filled(2)) as proxy, wire(proxy.http_port) as leaver:
            leaver.ask("POST", PATH, b'{"instances":[["leaver"]]}')
            await eventually("it waits", lambda: inside(proxy, 1))
            leaver.abort()
            await eventually("it left", lambda: inside(proxy, 0))
            answers = await in_order(proxy, [b'{"instances":[[1]]}', b'{"instances":[[2]]}'], PATH)
        assert [json.loads(answer.body)["predictions"] for answer in answers] == [[0], [1]]
        assert seen() == [[[1], [2]]]


async def inside(proxy: Sidecar, count: int) -> bool:
    return proxy.queue_proxy.stats.concurrency == count


async def test_without_a_latency_nobody_waits_idly(foreign: ThreadingHTTPServer) -> None:
    """The first goes at once; what comes while it is being answered goes together."""
    async with sidecar(foreign.server_port, batching=BatchSettings(max_latency_s=3600.0)) as proxy:
        for number in range(3):
            assert (await send(proxy, {"instances": [[number]]})).status == 200
    assert seen() == [[[0]], [[1]], [[2]]]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], None),
        (["--max-batchsize", "8"], None),
        (["--enable-batcher", "--component-port", "8080"], BatchSettings()),
        (
            ["--enable-batcher", "--max-batchsize", "8", "--max-latency", "20", "--namespace", "n"],
            BatchSettings(max_size=8, max_latency_s=0.02, waits_when_idle=True),
        ),
    ],
)
def test_settings_are_those_of_kserves_agent(argv: list[str], expected: BatchSettings | None) -> None:
    assert SidecarSettings.parse(argv, {}).batching == expected


def test_a_flag_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadSetting, match="max-batchsize"):
        SidecarSettings.parse(["--enable-batcher", "--max-batchsize", "many"], {})
