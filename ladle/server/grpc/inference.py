"""The inference service: each method from the data plane, errors as the protocol's codes (spec/kserve.md 5.3)."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc

from ladle.clock import Clock
from ladle.errors import InferenceError, InvalidInput, ModelNotFound, ModelNotReady, StatusError, Unsupported
from ladle.log import get_logger
from ladle.protocol.grpc.codec import decode_request, encode_response
from ladle.protocol.grpc.schema import INFERENCE_SERVICE, METHODS, message_class
from ladle.protocol.json import encode
from ladle.protocol.messages import InferRequest, TensorMetadata
from ladle.protocol.results import v2_response
from ladle.server.data_plane import DataPlane
from ladle.server.eventually import is_later
from ladle.server.grpc.inside import CallsInside
from ladle.server.model_config import model_config
from ladle.server.passage import Overloaded, Passage, TookTooLong
from ladle.server.queue_proxy import QueueProxy
from ladle.server.repository import ServedModel
from ladle.server.response_headers import model_metadata
from ladle.server.statistics import MS_PER_S

_PROXIED_HEADER = "k-proxy-request"
queue_time_s: ContextVar[float | None] = ContextVar("queue_time_s", default=None)
"""How long this call waited for its slot; None where it got none. Each call is a task with a context of its own, and the
access log around it reads it there."""
log = get_logger(__name__)


class InferenceService:
    """Handlers for a grpc.aio server."""

    def __init__(self, data_plane: DataPlane, queue_proxy: QueueProxy, *, clock: Clock, inside: CallsInside) -> None:
        self._data_plane = data_plane
        self._queue_proxy = queue_proxy
        self._clock = clock
        self._inside = inside

    def handlers(self) -> grpc.GenericRpcHandler:
        """What the server is given."""
        methods = {name: self._handler(name) for name in METHODS}
        return _WithRefusals(grpc.method_handlers_generic_handler(INFERENCE_SERVICE, methods))

    def _handler(self, name: str) -> grpc.RpcMethodHandler:
        request, response = (message_class(f"inference.{name}{end}") for end in ("Request", "Response"))
        method = getattr(self, f"_{_snake(name)}")
        if name == "ModelInfer":
            behaviour, deserializer = method, _sized(request.FromString)
        else:
            behaviour, deserializer = _guarded(method, response), request.FromString
        return grpc.unary_unary_rpc_method_handler(
            self._inside.counted(behaviour),
            request_deserializer=deserializer,
            response_serializer=response.SerializeToString,
        )

    async def _model_infer(self, sized: tuple[Any, int], context: grpc.aio.ServicerContext) -> Any:
        message, size_bytes = sized
        headers = _headers(context)
        began_s, refusal = self._clock.monotonic_s(), (grpc.StatusCode.OK, "")
        passage = Passage(self._queue_proxy, proxied=_PROXIED_HEADER in headers)
        try:
            await passage.enter()
            waited_s = self._clock.monotonic_s() - began_s
            queue_time_s.set(waited_s)
            served, request = self._decode(message, headers, size_bytes=size_bytes, waited_s=waited_s)
            request.time_left_s = context.time_remaining()
            result = self._data_plane.predict(served, request)
            if is_later(result):
                result = await passage.in_time(result)
            encoded = self._encode(result, served, request)
            if request.response_headers:
                await context.send_initial_metadata(model_metadata(request.response_headers))
            return encoded
        except asyncio.CancelledError:
            refusal = grpc.StatusCode.CANCELLED, ""
            raise
        except Exception as error:  # noqa: BLE001  # The top of a call: every error has a code.
            refusal = status_of(error)
        finally:
            passage.leave()
            took_s, code = self._clock.monotonic_s() - began_s, refusal[0]
            ok = code is grpc.StatusCode.OK
            self._data_plane.record(message.model_name, "grpc", code=code.name, ok=ok, took_s=took_s)
        # Only now: whoever has the answer may look at the counts, and send the next call into the free slot.
        return await context.abort(*refusal)

    def _decode(
        self, message: Any, headers: Mapping[str, str], *, size_bytes: int, waited_s: float
    ) -> tuple[ServedModel, InferRequest]:
        name = message.model_name
        served = self._data_plane.repository.find_ready(name)
        self._data_plane.refuse_version(name, message.model_version)
        served.queue.observe(waited_s)
        began_s = self._clock.monotonic_s()
        request = decode_request(message, headers, size_bytes)
        served.preprocess.observe(self._clock.monotonic_s() - began_s)
        return served, request

    def _encode(self, result: Any, served: ServedModel, request: InferRequest) -> Any:
        began_s = self._clock.monotonic_s()
        encoded = encode_response(v2_response(result, request), raw=request.raw_contents)
        served.postprocess.observe(self._clock.monotonic_s() - began_s)
        return encoded

    async def _server_live(self, _: Any) -> dict[str, Any]:
        return {"live": self._data_plane.live()}

    async def _server_ready(self, _: Any) -> dict[str, Any]:
        return {"ready": self._data_plane.ready()}

    async def _model_ready(self, message: Any) -> dict[str, Any]:
        self._data_plane.refuse_version(message.name, message.version)
        return {"ready": self._data_plane.model_ready(message.name)}

    async def _server_metadata(self, _: Any) -> dict[str, Any]:
        metadata = self._data_plane.server_metadata()
        return {"name": metadata.name, "version": metadata.version, "extensions": metadata.extensions}

    async def _model_metadata(self, message: Any) -> dict[str, Any]:
        self._data_plane.refuse_version(message.name, message.version)
        metadata = self._data_plane.model_metadata(message.name)
        return {
            "name": message.name,
            "versions": metadata.versions,
            "platform": metadata.platform,
            "inputs": [_tensor(tensor) for tensor in metadata.inputs],
            "outputs": [_tensor(tensor) for tensor in metadata.outputs],
            "properties": dict(metadata.properties),
        }

    async def _model_config(self, message: Any) -> dict[str, Any]:
        config = model_config(self._data_plane.repository.find(message.name))
        known = {name: config[name] for name in ("name", "platform", "backend", "max_batch_size", "input", "output")}
        return {"config": known}

    async def _model_statistics(self, message: Any) -> dict[str, Any]:
        repository = self._data_plane.repository
        wanted = [repository.find(message.name)] if message.name else repository.served()
        return {"model_stats": [_statistics(served) for served in wanted]}

    async def _repository_index(self, message: Any) -> dict[str, Any]:
        entries = self._data_plane.index(only_ready=message.ready)
        return {"models": [{"name": e.name, "state": e.state, "reason": e.reason} for e in entries]}

    async def _repository_model_load(self, message: Any) -> dict[str, Any]:
        name = message.model_name or message.repository_name
        self._data_plane.refuse_overrides(name, message.parameters)
        try:
            await self._data_plane.load(name)
        except Exception as error:  # Whatever a model's load raises is the answer to who asked for it.
            raise ModelNotReady(name, f"{type(error).__name__}: {error}") from error
        return {"model_name": name, "isLoaded": True}

    async def _repository_model_unload(self, message: Any) -> dict[str, Any]:
        name = message.model_name or message.repository_name
        await self._data_plane.unload(name)
        return {"model_name": name, "isUnloaded": True}


def _sized(parse: Callable[[bytes], Any]) -> Callable[[bytes], tuple[Any, int]]:
    """The message and its length, which the bytes say for nothing: to ask the message for it packs it again."""
    return lambda serialized: (parse(serialized), len(serialized))


class _WithRefusals(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types.
    """The known methods; for the service's other ones, which Triton has, an answer that says what to do instead."""

    def __init__(self, known: grpc.GenericRpcHandler) -> None:
        self._known = known

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, method = handler_call_details.method.strip("/").partition("/")
        if method in METHODS or service != INFERENCE_SERVICE:
            return self._known.service(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_refusal(method))


def _refusal(method: str) -> Callable[[Any, Any], AsyncIterator[Any]]:
    advice = next((advice for part, advice in _INSTEAD.items() if part in method), "see /v2 for what is")

    async def refuse(_: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not supported: {advice}")
        yield

    return refuse


_INSTEAD = {
    "SharedMemory": "send tensors in the message itself",
    "StreamInfer": "send each request as a call of ModelInfer",
    "Setting": "the log is JSON on stderr",
}
"""By part of a method's name, what to do where Triton has a method that this server has not."""


def _guarded(
    answer: Callable[[Any], Awaitable[Mapping[str, Any]]], response: Any
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(message: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return response(**await answer(message))
        except Exception as error:  # noqa: BLE001  # The top of a call: every error has a code.
            await context.abort(*status_of(error))

    return call


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The code and the text of an error; bugs go to the log and say no more than that they are."""
    codes = grpc.StatusCode
    match error:
        case StatusError():
            return _CODES.get(error.status, _code_of_class(error.status)), _words(error.body)
        case InvalidInput() | InferenceError():
            return codes.INVALID_ARGUMENT, str(error)
        case ModelNotFound():
            return codes.NOT_FOUND, str(error)
        case ModelNotReady() | Overloaded():
            return codes.UNAVAILABLE, str(error)
        case TookTooLong():
            return codes.DEADLINE_EXCEEDED, str(error)
        case Unsupported() | NotImplementedError():
            return codes.UNIMPLEMENTED, str(error)
        case _:
            log.error("call failed", error=repr(error), traceback="".join(traceback.format_exception(error)))
            return codes.INTERNAL, "Internal server error"


def _words(body: object) -> str:
    """What the JSON of a refusal says: gRPC has a text where REST has a body."""
    if isinstance(body, Mapping):
        said = [body[key] for key in _SAYING if isinstance(body.get(key), str)]
        if said:
            return str(said[0])
    return body if isinstance(body, str) else encode(body).decode()


_SAYING = ("error", "detail")
"""Where KServe's servers have the words, and FastAPI's."""
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""HTTP statuses that mean the same, as google.rpc.Code lists them."""


def _code_of_class(status: int) -> grpc.StatusCode:
    return grpc.StatusCode.FAILED_PRECONDITION if status < 500 else grpc.StatusCode.INTERNAL


def _headers(context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _statistics(served: ServedModel) -> dict[str, Any]:
    statistics = served.statistics
    durations = statistics.durations()
    return {
        "name": served.model.name,
        "last_inference": int(statistics.last_inference_s * MS_PER_S),
        "inference_count": statistics.success.count,
        "execution_count": statistics.executions or durations["compute_infer"].count,
        "inference_stats": {name: {"count": found.count, "ns": found.ns} for name, found in durations.items()},
    }
