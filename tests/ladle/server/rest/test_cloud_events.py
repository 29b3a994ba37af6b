"""V1 requests as CloudEvents, binary and structured, as KServe takes and answers them (spec/kserve.md 5.8)."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.ladle.server.models import AsyncModel, StreamModel, SumModel
from tests.ladle.server.serving import served

ATTRIBUTES = {"specversion": "1.0", "id": "36077800", "source": "test", "type": "com.example.sampletype1"}
DATA = {"instances": [[1, 2], [3, 4]]}
STRUCTURED = "application/cloudevents+json"


def binary(**attributes: str) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in {**ATTRIBUTES, **attributes}.items()}


@pytest.mark.parametrize("name", ["sum", "async"])
async def test_a_binary_event_is_answered_by_one(name: str) -> None:
    async with served(SumModel("sum"), AsyncModel("async")) as app:
        answer = await app.v1(name, DATA, **binary())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert set(json.loads(answer.body)) == {"predictions"}
    assert answer.headers["ce-specversion"] == "1.0"
    assert answer.headers["ce-type"] == "io.kserve.inference.response"
    assert answer.headers["ce-source"] == f"io.kserve.inference.{name}"
    assert answer.headers["ce-id"] != ATTRIBUTES["id"]
    assert "ce-time" in answer.headers


async def test_a_structured_event_is_answered_by_one() -> None:
    body = {**ATTRIBUTES, "time": "2026-01-01T00:00:00Z", "data": DATA}
    async with served(SumModel("sum")) as app:
        answer = await app.v1("sum", body, content_type=f"{STRUCTURED}; charset=utf-8", accept_encoding="gzip")
        packed = gzip.compress(json.dumps(body).encode())
        same = await app.post("/v1/models/sum:predict", packed, content_type=STRUCTURED, content_encoding="gzip")
    assert (answer.status, answer.headers["content-type"]) == (200, STRUCTURED)
    event = json.loads(answer.body)
    assert event["data"] == json.loads(same.body)["data"] == {"predictions": [3.0, 7.0]}
    assert (event["type"], event["source"]) == ("io.kserve.inference.response", "io.kserve.inference.sum")
    assert {"id", "time", "specversion"} <= set(event)


@pytest.mark.parametrize("structured", [True, False])
async def test_kserves_variables_say_what_the_answer_is(structured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CE_MERGE": "true", "CE_TYPE": "my.type", "CE_SOURCE": "my.source"}.items():
        monkeypatch.setenv(name, value)
    async with served(SumModel("sum")) as app:
        if structured:
            event = {**ATTRIBUTES, "subject": "grüße", "data": DATA}
            found: dict[str, Any] = json.loads((await app.v1("sum", event, content_type=STRUCTURED)).body)
        else:
            answer = await app.v1("sum", DATA, **binary(subject="gr%C3%BC%C3%9Fe"))
            found = {name.removeprefix("ce-"): value for name, value in answer.headers.items()}
    assert (found["type"], found["source"]) == ("my.type", "my.source")
    assert found["subject"] == ("grüße" if structured else "gr%c3%bc%c3%9fe")
    assert found["id"] != ATTRIBUTES["id"]


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        ({**ATTRIBUTES}, {"content-type": STRUCTURED}, "the CloudEvent lacks data"),
        ([], {"content-type": STRUCTURED}, "a structured CloudEvent is a JSON object"),
        ({"data": DATA}, {"content-type": STRUCTURED}, "lacks specversion, id, source, type"),
        ({**ATTRIBUTES, "id": 7, "data": DATA}, {"content-type": STRUCTURED}, "lacks id"),
        (DATA, {"ce-specversion": "1.0", "ce-id": "1"}, "lacks source, type"),
        (DATA, binary(specversion="9"), "specversion = 9, must be 1.0 or 0.3"),
        (b"{", binary(), "Unrecognized request format"),
        (b"\xff{", {"content-type": STRUCTURED}, "Unrecognized request format"),
    ],
)
async def test_a_broken_event_is_a_400_that_says_why(body: object, headers: dict[str, str], error: str) -> None:
    async with served(SumModel("sum")) as app:
        answer = await app.v1("sum", body, **headers)
    assert answer.status == 400
    assert error in json.loads(answer.body)["error"]


async def test_errors_and_streams_are_answered_as_they_are() -> None:
    async with served(SumModel("sum"), StreamModel("stream")) as app:
        missing = await app.v1("none", DATA, **binary())
        stream = await app.v1("stream", DATA, **binary())
    assert (missing.status, "ce-id" in missing.headers) == (404, False)
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
