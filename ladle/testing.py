"""Transformers in unit tests, without a server and without a predictor.

    predictor = FakePredictor({"predictions": [7]})
    answer = ask(MyTransformer("m"), {"instances": ["an image"]}, predictor=predictor)
    assert answer.body == {"predictions": ["seven"]}

The request goes through the server's own code, so status and body are what a client would get. What the predictor was asked
is in `predictor.questions`. A `Recorder` stands between a transformer and a real predictor once and writes down what they
say; a `RecordedPredictor` says it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ladle.clock import SystemClock
from ladle.errors import UserError
from ladle.protocol.json import decode, encode
from ladle.protocol.messages import InferRequest, InferResponse
from ladle.protocol.results import v1_body, v2_response
from ladle.protocol.v2_client import decode_response, encode_request
from ladle.server.data_plane import DataPlane
from ladle.server.eventually import is_later
from ladle.server.http.messages import Request, Response
from ladle.server.metrics import ServerMetrics
from ladle.server.repository import ModelRepository
from ladle.server.rest.router import RestRouter
from ladle.transformer.messages import Prediction, Predictor, Question
from ladle.transformer.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Answered:
    """What a client would have got: `body` is the parsed JSON, headers have lower-case names."""

    status: int
    body: Any
    headers: Mapping[str, str]


class FakePredictor:
    """Answers every question with the same, or with what a function makes of it.

    The answer may have any form in which a model answers: a V1 body, an array, a mapping of output names to arrays, an
    InferResponse. An exception is raised instead: `StatusError(404, {"error": "gone"})` for a refusal.
    """

    def __init__(self, answer: Any | Callable[[Question], Any], headers: Mapping[str, str] | None = None) -> None:
        self.questions: list[Question] = []
        self._answer = answer
        self._headers = dict(headers or {})

    async def ask(self, question: Question) -> Prediction:
        """See messages.Predictor."""
        self.questions.append(question)
        answer = self._answer(question) if callable(self._answer) else self._answer
        if isinstance(answer, Exception):
            raise answer
        if not question.tensors:
            return Prediction(payload=decode(encode(v1_body(answer))), headers=self._headers)
        asked = InferRequest(model_name=question.model_name, id=question.id)
        return Prediction(response=v2_response(answer, asked), headers=self._headers)

    async def close(self) -> None:
        """Has nothing to close."""


@dataclass(slots=True)
class Recorder:
    """Passes questions on to a predictor, and writes them with their answers to a JSON file."""

    predictor: Predictor
    path: Path
    _said: list[dict[str, Any]] = field(default_factory=list)

    async def ask(self, question: Question) -> Prediction:
        """See messages.Predictor."""
        prediction = await self.predictor.ask(question)
        self._said.append({"question": _asked(question), "answer": _answered(prediction)})
        self.path.write_bytes(encode(self._said))
        return prediction

    async def close(self) -> None:
        """Closes the predictor's connections."""
        await self.predictor.close()


class RecordedPredictor:
    """Answers the questions of a recording, in any order; UserError for a question that is not in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said: list[dict[str, Any]] = decode(path.read_bytes())

    async def ask(self, question: Question) -> Prediction:
        """See messages.Predictor."""
        asked = _asked(question)
        for said in self._said:
            if said["question"] == asked:
                return _prediction(said["answer"])
        raise UserError(f"{self._path} has no answer to {encode(asked).decode()}; record it anew")

    async def close(self) -> None:
        """Has nothing to close."""


def ask(
    transformer: Transformer,
    body: object,
    *,
    predictor: Predictor,
    headers: Mapping[str, str] | None = None,
    verb: Literal["predict", "explain"] = "predict",
) -> Answered:
    """What the transformer answers to a request, of V1 or V2 as its body shows; not for use within an event loop.

    `explain` is V1's only.
    """
    return asyncio.run(ask_async(transformer, body, predictor=predictor, headers=headers, verb=verb))


async def ask_async(
    transformer: Transformer,
    body: object,
    *,
    predictor: Predictor,
    headers: Mapping[str, str] | None = None,
    verb: Literal["predict", "explain"] = "predict",
) -> Answered:
    """The same within an event loop."""
    transformer.use(predictor)
    clock, metrics = SystemClock(), ServerMetrics()
    repository = ModelRepository([transformer], clock=clock, metrics=metrics, threads=1)
    try:
        await repository.load(transformer.name)
        router = RestRouter(DataPlane(repository, clock=clock, metrics=metrics), clock=clock, metrics=metrics)
        response = router(_request(transformer.name, body, headers or {}, verb))
        if is_later(response):
            response = await response
        assert isinstance(response, Response)
        return _read(response)
    finally:
        repository.close()


def _request(name: str, body: object, headers: Mapping[str, str], verb: str) -> Request:
    path = f"/v2/models/{name}/infer" if _is_v2(body) and verb == "predict" else f"/v1/models/{name}:{verb}"
    given = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    request = Request("POST", path.encode(), given)
    request.body = encode(body)
    return request


def _is_v2(body: object) -> bool:
    inputs = body.get("inputs") if isinstance(body, Mapping) else None
    return isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], Mapping) and "datatype" in inputs[0]


def _read(response: Response) -> Answered:
    raw = response.body
    content = b"".join(raw) if isinstance(raw, tuple) else bytes(raw)
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}
    return Answered(response.status, decode(content) if content else None, headers)


def _asked(question: Question) -> Any:
    if not question.tensors:
        return decode(encode(question.payload))
    return _json_of(encode_request(question.tensors, request_id="", parameters=question.parameters, binary=False))


def _answered(prediction: Prediction) -> Any:
    if prediction.response is None:
        return decode(encode(prediction.payload))
    outputs = prediction.response.outputs
    said = _json_of(encode_request(outputs, request_id="", parameters={}, binary=False))
    return {"outputs": said["inputs"]}  # One has the same fields as the other.


def _json_of(encoded: tuple[bytes, int | None]) -> Any:
    body, json_length = encoded
    if json_length is not None:
        raise UserError("16-bit floats and bytes that are no text cannot be recorded: a recording is JSON")
    return decode(body)


def _prediction(said: Any) -> Prediction:
    if not isinstance(said, Mapping) or "outputs" not in said:
        return Prediction(payload=said)
    response: InferResponse = decode_response(encode(said), None)
    return Prediction(response=response)
