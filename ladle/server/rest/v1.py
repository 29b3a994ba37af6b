"""The V1 protocol: `/v1/models...` (spec/kserve.md 5.1)."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine
from typing import Any

from ladle.clock import Clock
from ladle.errors import InvalidInput, ModelNotReady
from ladle.protocol.json import decode, encode
from ladle.protocol.messages import InferRequest
from ladle.protocol.results import v1_body
from ladle.server.data_plane import DataPlane
from ladle.server.eventually import is_later
from ladle.server.http.application import Answer
from ladle.server.http.messages import OCTETS, TEXT, Request, Response, text
from ladle.server.repository import ServedModel
from ladle.server.response_headers import model_content_type, model_headers
from ladle.server.rest.answers import json_answer
from ladle.server.rest.bodies import TextHeaders, compressed, decoded_body, is_json
from ladle.server.rest.cloud_events import (
    Event,
    EventSettings,
    event_answer,
    is_event,
    read_event,
    request_within,
)

_EVENT_STREAM = b"text/event-stream"


class V1:
    """Answers V1 requests from a data plane."""

    def __init__(self, data_plane: DataPlane, *, clock: Clock) -> None:
        self._data_plane = data_plane
        self._clock = clock
        self._events = EventSettings.from_environment(os.environ)

    def models(self) -> Response:
        return json_answer({"models": self._data_plane.repository.names()})

    def model(self, name: str) -> Response:
        """The model's readiness; 503 while it is not."""
        if not self._data_plane.model_ready(name):
            raise ModelNotReady(name, self._data_plane.repository.find(name).detail)
        return json_answer({"name": name, "ready": True})

    def infer(self, request: Request, name: str, verb: str) -> Answer:
        """`verb` is predict or explain."""
        return self._infer_event(request, name, verb) if is_event(request) else self._infer(request, name, verb)

    def _infer_event(self, request: Request, name: str, verb: str) -> Answer:
        event = read_event(request, bytes(decoded_body(request)))
        answer = self._infer(request_within(event, request), name, verb)
        return self._answer_later(answer, event, name) if is_later(answer) else self._answer(answer, event, name)

    async def _answer_later(self, answer: Coroutine[Any, Any, Response], event: Event, name: str) -> Response:
        return self._answer(await answer, event, name)

    def _answer(self, response: Answer, event: Event, name: str) -> Response:
        assert isinstance(response, Response), "told apart by the callers"
        return event_answer(response, event, name, settings=self._events, wall_s=self._clock.wall_s())

    def _infer(self, request: Request, name: str, verb: str) -> Answer:
        served = self._data_plane.repository.find_ready(name)
        began_s = self._clock.monotonic_s()
        served.queue.observe(began_s - request.arrived_s)
        if served.batcher is not None and verb == "predict":
            refusal = _batch_refusal(request)
            if refusal is not None:
                return refusal
        inference = InferRequest(
            model_name=name,
            id=request.header(b"x-request-id"),
            payload=_payload(request, accepts_raw=served.model.accepts_raw),
            headers=TextHeaders(request.headers),
            size_bytes=len(request.body),
        )
        served.preprocess.observe(self._clock.monotonic_s() - began_s)
        ask = self._data_plane.explain if verb == "explain" else self._data_plane.predict
        result = ask(served, inference)
        if is_later(result):
            return self._respond_later(result, inference, served, request)
        return _with_headers(self._respond(result, served, request), inference)

    async def _respond_later(
        self, result: Coroutine[Any, Any, Any], inference: InferRequest, served: ServedModel, request: Request
    ) -> Response:
        return _with_headers(self._respond(await result, served, request), inference)

    def _respond(self, result: Any, served: ServedModel, request: Request) -> Response:
        if isinstance(result, Response):
            return result
        if isinstance(result, bytes):
            return Response(200, result, content_type=OCTETS)
        if isinstance(result, str):
            return Response(200, result.encode(), content_type=TEXT)
        if isinstance(result, AsyncIterable):
            return Response(200, content_type=_EVENT_STREAM, stream=_pieces(result))
        began_s = self._clock.monotonic_s()
        body = encode(v1_body(result))
        served.postprocess.observe(self._clock.monotonic_s() - began_s)
        packed = compressed(body, request)
        if packed is None:
            return Response(200, body)
        return Response(200, packed[0], headers=((b"content-encoding", packed[1].encode()),))


def _with_headers(response: Response, inference: InferRequest) -> Response:
    if inference.response_headers:
        response.headers += model_headers(inference.response_headers)
        if response.content_type in (OCTETS, TEXT):  # JSON is what it is; of a text or bytes the model knows more.
            response.content_type = model_content_type(inference.response_headers, response.content_type)
    return response


def _batch_refusal(request: Request) -> Response | None:
    """What KServe's batcher answers, in its own words, to a body that it cannot batch."""
    try:
        payload = decode(decoded_body(request))
    except InvalidInput:
        return text(400, "can't Unmarshal body")
    rows = payload.get("instances") if isinstance(payload, dict) else None
    return None if isinstance(rows, list) and rows else text(400, "no instances in the request")


def _payload(request: Request, *, accepts_raw: bool) -> object:
    body = decoded_body(request)
    if accepts_raw and not is_json(request):
        return bytes(body)
    payload = decode(body)
    if isinstance(payload, dict) and not isinstance(payload.get("instances", []), list):
        raise InvalidInput('Expected "instances" to be a list')
    if payload is None:
        raise InvalidInput('Expected a JSON object with "instances" or "inputs"')
    return payload


async def _pieces(result: AsyncIterable[Any]) -> AsyncGenerator[bytes, None]:
    async for piece in result:
        yield piece if isinstance(piece, bytes) else str(piece).encode()
