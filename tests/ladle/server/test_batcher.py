"""Batching: KServe's recorded cases for V1, the same for tensors, and nobody ever gets somebody else's row."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ladle.clock import SystemClock
from ladle.errors import InvalidInput
from ladle.protocol.messages import InferRequest
from ladle.protocol.tensor import tensor_of
from ladle.server.batch_queue import BatchQueue, BatchSettings
from ladle.server.batcher import WrongRowCount, batch_key, merge_requests, split_result
from ladle.server.model import Model
from ladle.server.options import ServerOptions
from tests.ladle.server.serving import Served, served, tensor
from tests.ladle.server.wire import Answer, wire
from tests.waiting import eventually

GOLDEN = Path(__file__).parents[3] / "../shared/golden/kserve/agent.yaml"
QUICK = BatchSettings(max_size=4, max_latency_s=1.0, waits_when_idle=True)
NEVER = BatchSettings(max_size=1000, max_latency_s=60.0, waits_when_idle=True)
ADAPTIVE = BatchSettings(max_size=1000, max_latency_s=3600.0)


def filled(size: int) -> BatchSettings:
    """Waits for ever, or until there are so many rows."""
    return BatchSettings(max_size=size, max_latency_s=60.0, waits_when_idle=True)


DIFFERENT = {
    "batcher-service-short": "paths that only the recorded service has; a model here answers under its own name",
    "batcher-service-error": "the same; a model's error is the answer to each request that has it, in KServe's form",
    "batcher-other-path": "V2 is batched here too, so that a V1 body under a V2 path is a 422 that says so",
}
"""The recorded cases whose paths lead to something else in a model server. The sidecar answers all of them as recorded."""


class CountingModel(Model):
    """What the recorded service was: each row to its place in the request. Remembers what it saw."""

    def __init__(self, name: str = "m", *, short: int = 0) -> None:
        super().__init__(name)
        self.saw: list[Any] = []
        self.headers: list[str] = []
        self.short = short

    def predict(self, request: InferRequest) -> Any:
        self.headers.append(request.headers.get("authorization", ""))
        if request.is_v1:
            self.saw.append(request.instances)
            if any(row == ["bad"] for row in request.instances):
                raise InvalidInput("a bad row")
            return list(range(len(request.instances) - self.short))
        self.saw.append(request.as_array().tolist())
        return {"double": request.as_array() * 2, "count": np.arange(len(request.as_array()) - self.short)}


def recorded() -> dict[str, Any]:
    if not GOLDEN.exists():
        pytest.skip("the reference recordings are not here")
    cases: dict[str, Any] = yaml.safe_load(GOLDEN.read_text())
    return {name: case for name, case in cases.items() if name.startswith("batcher-")}


class TestRecordings:
    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("batcher-4-fill", filled(4)),
            ("batcher-2-wait", filled(2)),
            ("batcher-uneven", filled(5)),
            ("batcher-bad-json", QUICK),
            ("batcher-no-instances", QUICK),
        ],
    )
    async def test_recorded_case(self, name: str, settings: BatchSettings) -> None:
        case, model = recorded()[name], CountingModel()
        async with served(model, batching=settings) as app:
            answers = await in_order(app, [answer["request"].encode() for answer in case["answers"]])
        for answer, expected in zip(answers, case["answers"], strict=True):
            assert answer.status == expected["status"]
            assert without_id(answer.text) == expected["body"]
        assert model.saw == [json.loads(seen["body"])["instances"] for seen in case["service_saw"]]

    async def test_paths_that_only_the_recorded_service_had(self) -> None:
        cases, model = recorded(), CountingModel("short")
        async with served(model, batching=filled(2)) as app:
            answers = await asyncio.gather(
                *(app.v1("short", json.loads(item["request"])) for item in cases["batcher-service-short"]["answers"])
            )
            assert sorted(json.loads(answer.body)["predictions"] for answer in answers) == [[0], [1]]
            for item in cases["batcher-service-error"]["answers"]:
                answer = await app.post("/status/500", item["request"].encode())
                assert (answer.status, json.loads(answer.body)) == (404, {"detail": "Not Found"})
        assert len(model.saw) == 1

    async def test_a_v1_body_under_a_v2_path_is_refused_with_the_reason(self) -> None:
        (item,) = recorded()["batcher-other-path"]["answers"]
        async with served(CountingModel(), batching=QUICK) as app:
            answer = await app.post("/v2/models/m/infer", item["request"].encode())
        assert (answer.status, json.loads(answer.body)["error"]) == (422, "inputs: field required")

    def test_no_case_is_left_out(self) -> None:
        tested = {"batcher-4-fill", "batcher-2-wait", "batcher-uneven", "batcher-bad-json", "batcher-no-instances"}
        assert set(recorded()) == tested | set(DIFFERENT)


class TestAdaptive:
    """Without a latency of KServe's, waiting is only for those who would have to wait anyway."""

    async def test_nobody_waits_when_the_model_is_idle(self) -> None:
        model = CountingModel()
        async with served(model, batching=ADAPTIVE) as app:
            for number in range(3):
                assert (await app.v1("m", {"instances": [[number]]})).status == 200
        assert len(model.saw) == 3

    async def test_what_comes_while_the_model_works_is_the_next_batch(self) -> None:
        gate, batches = asyncio.Event(), []

        async def run(items: Any) -> list[Any]:
            batches.append(list(items))
            await gate.wait()
            return list(items)

        async with asyncio.TaskGroup() as tasks:
            queue: BatchQueue[int, int] = BatchQueue(run, settings=ADAPTIVE, tasks=tasks, clock=SystemClock())
            first = tasks.create_task(queue.submit("k", 0, 1))
            await eventually("it is being answered", lambda: true(batches))
            others = [tasks.create_task(queue.submit("k", number, 1)) for number in range(1, 6)]
            apart = tasks.create_task(queue.submit("other", 9, 1))
            await eventually("another key does not wait", lambda: true(len(batches) == 2))
            gate.set()
            assert [(await task).part for task in (first, *others, apart)] == [0, 1, 2, 3, 4, 5, 9]
        assert batches == [[0], [9], [1, 2, 3, 4, 5]]
        assert not queue._running

    async def test_a_batch_that_nobody_waits_for_is_given_up_and_the_next_goes(self) -> None:
        stopped = asyncio.Event()

        async def run(items: Any) -> list[Any]:
            if items == [0]:
                try:
                    await asyncio.Event().wait()
                finally:
                    stopped.set()
            return list(items)

        async with asyncio.TaskGroup() as tasks:
            queue: BatchQueue[int, int] = BatchQueue(run, settings=ADAPTIVE, tasks=tasks, clock=SystemClock())
            first = tasks.create_task(queue.submit("k", 0, 1))
            await eventually("it is being answered", lambda: true(queue._running))
            second = tasks.create_task(queue.submit("k", 1, 1))
            first.cancel()
            await stopped.wait()
            assert (await second).part == 1


async def true(condition: object) -> bool:
    return bool(condition)


def without_id(body: str) -> str:
    if not body.startswith("{"):
        return body
    parsed = json.loads(body)
    return json.dumps(parsed | {"batchId": "<id>"}, separators=(",", ":")) if "batchId" in parsed else body


async def in_order(app: Served, bodies: list[bytes]) -> list[Answer]:
    """All at once, each on a connection of its own, sent in this order."""
    tasks = []
    for count, body in enumerate(bodies, 1):
        tasks.append(asyncio.ensure_future(app.v1("m", body)))
        await eventually("it was sent", lambda count=count: arrived(app, count, tasks))  # type: ignore[misc]
    return list(await asyncio.gather(*tasks))


async def arrived(app: Served, count: int, tasks: list[asyncio.Future[Answer]]) -> bool:
    return app.server.queue_proxy.stats.concurrency >= count or any(task.done() for task in tasks)


class TestV1:
    async def test_requests_of_one_batch_share_its_id(self) -> None:
        async with served(CountingModel(), batching=QUICK) as app:
            answers = await asyncio.gather(*(app.v1("m", {"instances": [[n]]}) for n in range(4)))
        assert len({json.loads(answer.body)["batchId"] for answer in answers}) == 1

    async def test_a_bad_row_is_the_error_of_its_own_request_only(self) -> None:
        async with served(CountingModel(), batching=filled(2)) as app:
            good, bad = await asyncio.gather(app.v1("m", {"instances": [[1]]}), app.v1("m", {"instances": [["bad"]]}))
        assert (good.status, json.loads(good.body)["predictions"]) == (200, [0])
        assert (bad.status, json.loads(bad.body)) == (400, {"error": "a bad row"})

    async def test_too_few_rows_are_an_error_and_nobody_elses_row(self) -> None:
        async with served(CountingModel(short=1), batching=QUICK) as app:
            answers = await asyncio.gather(*(app.v1("m", {"instances": [[n]]}) for n in range(4)))
        assert {(answer.status, answer.text) for answer in answers} == {
            (500, '{"error":"the model answered 3 rows for a batch of 4"}')
        }

    async def test_other_credentials_are_another_batch(self) -> None:
        model = CountingModel()
        async with served(model, batching=filled(2)) as app:
            await asyncio.gather(*(app.v1("m", {"instances": [[n]]}, authorization=f"user {n % 2}") for n in range(4)))
        assert sorted(model.headers) == ["user 0", "user 1"]
        assert sorted(len(rows) for rows in model.saw) == [2, 2]

    async def test_a_request_with_more_than_rows_goes_alone_and_is_answered_plainly(self) -> None:
        async with served(CountingModel(), batching=NEVER) as app:
            answer = await app.v1("m", {"instances": [[1]], "parameters": {}})
        assert answer.text == '{"predictions":[0]}'

    async def test_it_shows_in_metrics_and_statistics(self) -> None:
        async with served(CountingModel(), batching=QUICK) as app:
            await asyncio.gather(*(app.v1("m", {"instances": [[n]]}) for n in range(4)))
            page = (await app.get("/metrics")).text
            (statistics,) = json.loads((await app.get("/v2/models/m/stats")).body)["model_stats"]
        assert 'ladle_batch_size_rows_bucket{le="4.0",model_name="m"} 1.0' in page
        assert (statistics["inference_count"], statistics["execution_count"]) == (4, 1)
        assert statistics["inference_stats"]["queue"]["count"] == 4


class TestTensors:
    def body(self, *rows: list[float], name: str = "x", **changes: Any) -> dict[str, Any]:
        return {"id": str(rows[0]), "inputs": [tensor(name, "FP32", [len(rows), len(rows[0])], list(rows))], **changes}

    async def test_v2_requests_are_put_together_and_taken_apart(self) -> None:
        model = CountingModel()
        async with served(model, batching=QUICK) as app:
            bodies = [self.body([1, 2]), self.body([3, 4], [5, 6]), self.body([7, 8])]
            answers = await asyncio.gather(*(app.v2("m", body) for body in bodies))
        assert len(model.saw) == 1
        for body, answer in zip(bodies, answers, strict=True):
            found = json.loads(answer.body)
            rows = body["inputs"][0]["data"]
            assert found["id"] == body["id"]
            assert found["outputs"][0]["data"] == [2 * value for row in rows for value in row]
            assert found["outputs"][0]["shape"] == [len(rows), 2]

    async def test_each_request_gets_the_outputs_that_it_lists(self) -> None:
        async with served(CountingModel(), batching=QUICK) as app:
            one, all_of_them = await asyncio.gather(
                app.v2("m", self.body([1], [1], outputs=[{"name": "count"}])), app.v2("m", self.body([2], [2]))
            )
        assert [output["name"] for output in json.loads(one.body)["outputs"]] == ["count"]
        assert [output["name"] for output in json.loads(all_of_them.body)["outputs"]] == ["double", "count"]

    async def test_what_means_something_else_is_not_mixed(self) -> None:
        model = CountingModel()
        async with served(model, batching=QUICK) as app:
            bodies = [
                self.body([1, 2]),
                self.body([1, 2, 3]),
                self.body([1, 2], name="y"),
                self.body([1, 2], parameters={"a": 1}),
            ]
            answers = await asyncio.gather(*(app.v2("m", body) for body in bodies))
        assert {answer.status for answer in answers} == {200}
        assert len(model.saw) == 4

    async def test_too_few_rows_are_an_error(self) -> None:
        async with served(CountingModel(short=1), batching=QUICK) as app:
            answers = await asyncio.gather(*(app.v2("m", self.body([n])) for n in range(4)))
        assert {answer.text for answer in answers} == {'{"error":"the model answered 3 rows for a batch of 4"}'}


class TestCancellation:
    async def test_one_of_three_leaves_and_the_other_two_are_answered(self) -> None:
        model = CountingModel()
        async with served(model, batching=filled(3)) as app:
            stats = app.server.queue_proxy.stats
            async with wire(app.port) as first, wire(app.port) as leaver, wire(app.port) as third:
                for number, connection in enumerate((first, leaver), 1):
                    connection.ask("POST", "/v1/models/m:predict", b'{"instances":[[%d]]}' % number)
                    await eventually("it waits", lambda number=number: counts(stats, number))  # type: ignore[misc]
                leaver.abort()
                await eventually("it left", lambda: counts(stats, 1))
                third.ask("POST", "/v1/models/m:predict", b'{"instances":[[3],[4]]}')
                answers = [json.loads((await connection.answer()).body)["predictions"] for connection in (first, third)]
        assert answers == [[0], [1, 2]]
        assert model.saw == [[[1], [3], [4]]]

    async def test_one_that_leaves_after_its_batch_went_harms_nobody(self) -> None:
        gate, seen = asyncio.Event(), asyncio.Event()

        async def run(items: Any) -> list[Any]:
            seen.set()
            await gate.wait()
            return list(items)

        async with asyncio.TaskGroup() as tasks:
            queue: BatchQueue[int, int] = BatchQueue(run, settings=filled(3), tasks=tasks, clock=SystemClock())
            waiting = [asyncio.ensure_future(queue.submit("k", number, 1)) for number in range(3)]
            await seen.wait()
            waiting[1].cancel()
            gate.set()
            assert [(await waiting[index]).part for index in (0, 2)] == [0, 2]

    async def test_the_last_one_to_leave_takes_the_batch_with_it(self) -> None:
        async def run(items: Any) -> list[Any]:
            raise AssertionError("there is nothing to run")

        async with asyncio.TaskGroup() as tasks:
            queue: BatchQueue[int, int] = BatchQueue(run, settings=NEVER, tasks=tasks, clock=SystemClock())
            waiting = asyncio.ensure_future(queue.submit("k", 1, 1))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert not queue._open


async def counts(stats: Any, number: int) -> bool:
    return bool(stats.concurrency == number)


ROWS = st.lists(st.integers(0, 9), min_size=1, max_size=4)


@given(st.lists(ROWS, min_size=1, max_size=6), st.booleans())
def test_what_is_merged_and_split_is_everybodys_own(groups: list[list[int]], v1: bool) -> None:
    if v1:
        requests = [InferRequest(model_name="m", payload={"instances": [[row] for row in rows]}) for rows in groups]
        merged = merge_requests(requests)
        parts = split_result([row[0] * 10 for row in merged.instances], requests)
        assert parts == [[row * 10 for row in rows] for rows in groups]
    else:
        requests = [
            InferRequest(model_name="m", id=str(n), inputs=(tensor_of("x", rows),)) for n, rows in enumerate(groups)
        ]
        parts = split_result({"y": merge_requests(requests).as_array() * 10}, requests)
        assert [part.outputs[0].array.tolist() for part in parts] == [[row * 10 for row in rows] for rows in groups]
        assert [part.id for part in parts] == [request.id for request in requests]


@pytest.mark.parametrize("result", [None, 1, {"predictions": None}, {"other": []}, [1, 2, 3]])
def test_an_answer_that_is_not_rows_is_an_error(result: Any) -> None:
    with pytest.raises(WrongRowCount):
        split_result(result, [InferRequest(model_name="m", payload={"instances": [[1], [2]]})])


@pytest.mark.parametrize(
    "request_",
    [
        InferRequest(model_name="m", payload=b"raw"),
        InferRequest(model_name="m", payload={"instances": []}),
        InferRequest(model_name="m", inputs=(tensor_of("x", 1.0),)),
        InferRequest(model_name="m", inputs=(tensor_of("x", [1]), tensor_of("y", [1, 2]))),
        InferRequest(model_name="m"),
    ],
)
def test_what_cannot_be_put_together_goes_alone(request_: InferRequest) -> None:
    assert batch_key(request_)[0] is None


@pytest.mark.parametrize(
    ("argv", "env", "expected"),
    [
        ([], {}, None),
        (["--enable-batcher"], {}, BatchSettings()),
        (
            ["--enable-batcher", "--max-batchsize", "8", "--max-latency=20"],
            {},
            BatchSettings(max_size=8, max_latency_s=0.02, waits_when_idle=True),
        ),
        ([], {"LADLE_BATCH": "true", "LADLE_BATCH_MAX_SIZE": "2"}, BatchSettings(max_size=2)),
        (["--enable_batcher", "--max_batchsize=0", "--max_latency=0"], {}, BatchSettings()),
    ],
)
def test_settings_are_those_of_kserves_agent(
    argv: list[str], env: dict[str, str], expected: BatchSettings | None
) -> None:
    assert ServerOptions.parse(argv, env).batching == expected
