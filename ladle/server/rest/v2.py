"""The Open Inference Protocol: `/v2...` (spec/kserve.md 5.2)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ladle.clock import Clock
from ladle.errors import InvalidInput, ModelNotReady, Unsupported
from ladle.protocol.json import decode
from ladle.protocol.messages import InferRequest, TensorMetadata
from ladle.protocol.results import v2_response
from ladle.protocol.v2_rest import EncodedResponse, decode_request, encode_response
from ladle.server.data_plane import DataPlane
from ladle.server.eventually import is_later
from ladle.server.http.application import Answer
from ladle.server.http.messages import JSON, OCTETS, Header, Request, Response
from ladle.server.model_config import model_config
from ladle.server.repository import ServedModel
from ladle.server.response_headers import model_headers
from ladle.server.rest.answers import json_answer
from ladle.server.rest.bodies import TextHeaders, compressed, decoded_body
from ladle.server.statistics import MS_PER_S

_JSON_LENGTH = b"inference-header-content-length"


class V2:
    """Answers V2 requests from a data plane."""

    def __init__(self, data_plane: DataPlane, *, clock: Clock) -> None:
        self._data_plane = data_plane
        self._clock = clock

    def server(self) -> Response:
        metadata = self._data_plane.server_metadata()
        return json_answer({"name": metadata.name, "version": metadata.version, "extensions": metadata.extensions})

    def live(self) -> Response:
        return json_answer({"live": self._data_plane.live()})

    def ready(self) -> Response:
        ready = self._data_plane.ready()
        return json_answer({"ready": ready}, 200 if ready else 503)

    def models(self) -> Response:
        return json_answer({"models": self._data_plane.repository.names()})

    def model(self, name: str) -> Response:
        metadata = self._data_plane.model_metadata(name)
        body: dict[str, Any] = {
            "name": name,
            "versions": metadata.versions,
            "platform": metadata.platform,
            "inputs": [_tensor(tensor) for tensor in metadata.inputs],
            "outputs": [_tensor(tensor) for tensor in metadata.outputs],
        }
        if metadata.properties:
            body["properties"] = metadata.properties
        return json_answer(body)

    def model_ready(self, name: str) -> Response:
        if not self._data_plane.model_ready(name):
            raise ModelNotReady(name, self._data_plane.repository.find(name).detail)
        return json_answer({"name": name, "ready": True})

    def infer(self, request: Request, name: str) -> Answer:
        served = self._data_plane.repository.find_ready(name)
        began_s = self._clock.monotonic_s()
        served.queue.observe(began_s - request.arrived_s)
        inference = decode_request(name, decoded_body(request), _json_length(request), TextHeaders(request.headers))
        served.preprocess.observe(self._clock.monotonic_s() - began_s)
        result = self._data_plane.predict(served, inference)
        if is_later(result):
            return self._respond_later(result, inference, served, request)
        return self._respond(result, inference, served, request)

    async def _respond_later(
        self, result: Coroutine[Any, Any, Any], inference: InferRequest, served: ServedModel, request: Request
    ) -> Response:
        return self._respond(await result, inference, served, request)

    def _respond(self, result: Any, inference: InferRequest, served: ServedModel, request: Request) -> Response:
        began_s = self._clock.monotonic_s()
        encoded = encode_response(v2_response(result, inference), inference)
        served.postprocess.observe(self._clock.monotonic_s() - began_s)
        response = _response(encoded, request)
        if inference.response_headers:
            response.headers += model_headers(inference.response_headers)
        return response

    def config(self, name: str) -> Response:
        """The model's configuration, in Triton's form."""
        return json_answer(model_config(self._data_plane.repository.find(name)))

    def statistics(self, name: str) -> Response:
        return json_answer({"model_stats": [_statistics(self._data_plane.repository.find(name))]})

    def all_statistics(self) -> Response:
        return json_answer({"model_stats": [_statistics(served) for served in self._data_plane.repository.served()]})

    def index(self, request: Request) -> Response:
        """Every model with its state; `{"ready": true}` asks for those that are."""
        wish = decode(request.body) if request.body else {}
        only_ready = isinstance(wish, dict) and wish.get("ready") is True
        return json_answer(
            [
                {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
                for entry in self._data_plane.index(only_ready=only_ready)
            ]
        )

    async def load(self, name: str, request: Request) -> Response:
        """Loads a model; 503 with the reason where that fails."""
        body = decode(request.body) if request.body else {}
        self._data_plane.refuse_overrides(name, body.get("parameters") if isinstance(body, dict) else None)
        try:
            await self._data_plane.load(name)
        except Exception as error:  # Whatever a model's load raises is the answer to who asked for it.
            raise ModelNotReady(name, f"{type(error).__name__}: {error}") from error
        return json_answer({"name": name, "load": True})

    async def unload(self, name: str) -> Response:
        await self._data_plane.unload(name)
        return json_answer({"name": name, "unload": True})

    def version(self, name: str) -> Response:
        self._data_plane.repository.find(name)
        raise Unsupported("Model versioning is not supported.")


def _json_length(request: Request) -> int | None:
    value = request.headers.get(_JSON_LENGTH)
    if value is not None:
        if not value.isdigit():
            raise InvalidInput(
                f"inference-header-content-length = {value.decode('latin-1')}, must be a number of bytes"
            )
        return int(value)
    if request.headers.get(b"content-type") == OCTETS and request.body[-1:] not in (b"}", b"\n", b" "):
        raise InvalidInput("a binary body needs the header inference-header-content-length: where its JSON ends")
    return None


def _response(encoded: EncodedResponse, request: Request) -> Response:
    headers: tuple[Header, ...] = ()
    content_type = JSON
    if encoded.json_length is not None:
        content_type = OCTETS
        headers = ((_JSON_LENGTH, b"%d" % encoded.json_length),)
    if b"accept-encoding" in request.headers:
        packed = compressed(b"".join(encoded.pieces), request)
        if packed is not None:
            coding = (b"content-encoding", packed[1].encode())
            return Response(200, packed[0], content_type=content_type, headers=(*headers, coding))
    body = encoded.pieces[0] if len(encoded.pieces) == 1 else encoded.pieces
    return Response(200, body, content_type=content_type, headers=headers)


def _statistics(served: ServedModel) -> dict[str, Any]:
    statistics = served.statistics
    durations = statistics.durations()
    return {
        "name": served.model.name,
        "version": "",
        "last_inference": int(statistics.last_inference_s * MS_PER_S),
        "inference_count": statistics.success.count,
        "execution_count": statistics.executions or durations["compute_infer"].count,
        "inference_stats": {name: {"count": duration.count, "ns": duration.ns} for name, duration in durations.items()},
        "batch_stats": [],
    }


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
