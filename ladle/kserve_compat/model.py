"""A user's kserve.Model as a Ladle model: the same hooks, in the same order, with the same arguments."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ladle.errors import BadModel
from ladle.kserve_compat.errors import translated
from ladle.kserve_compat.tensors import kserve_request, response_of
from ladle.log import get_logger
from ladle.protocol.json import encode
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.server.execution import in_daemon_thread
from ladle.server.hooks import EXPLAIN, Step
from ladle.server.http.messages import OCTETS, Response
from ladle.server.model import Model

log = get_logger(__name__)
_JSON_LENGTH = b"inference-header-content-length"


@dataclass(slots=True)
class Exchange:
    """What goes from hook to hook: KServe gives all of them the same headers."""

    value: Any
    headers: dict[str, str]
    response_headers: dict[str, str]


class KserveModel(Model):
    """Serves one kserve.Model, or another subclass of its InferenceModel that is called as a whole."""

    accepts_raw = True

    def __init__(self, model: Any, name: str = "") -> None:
        """`name`: under which it is served, where that is not its own."""
        super().__init__(name or model.name)
        self.model = model
        self._inputs: tuple[TensorMetadata, ...] = ()
        self._outputs: tuple[TensorMetadata, ...] = ()
        base = import_module("kserve").Model
        self._own_health = _overrides(model, "healthy", base)

    async def load(self) -> None:  # type: ignore[override]  # The server awaits a `load` that is a coroutine function.
        """`load` of the model where its code has not called that already, `start`, and its engine's start."""
        model = self.model
        if not model.ready:
            if inspect.iscoroutinefunction(model.load):
                await model.load()
            else:
                await in_daemon_thread(model.load)
        if not model.ready:
            raise BadModel(
                f"{type(model).__name__}.load returned, and self.ready is {model.ready}: load sets it to True"
            )
        model.start()
        if getattr(model, "engine", False):
            await model.start_engine()
        self._inputs, self._outputs = [
            tuple(_tensor_metadata(item) for item in await _value_of(getattr(model, name, list)))
            for name in ("get_input_types", "get_output_types")
        ]

    def unload(self) -> None:
        self.model.stop()
        if getattr(self.model, "engine", False):
            self.model.stop_engine()

    def healthy(self) -> bool:
        own = _driven(self.model.healthy()) if self._own_health else None
        return bool(self.model.ready if own is None else own)

    def metadata(self) -> ModelMetadata:
        properties = {"engine": "kserve", "model_class": type(self.model).__name__}
        return ModelMetadata(name=self.name, inputs=self._inputs, outputs=self._outputs, properties=properties)

    def steps(self, verb: str) -> Sequence[Step]:
        """The hooks that the class defines, between a step that makes KServe's request and one that takes its answer."""
        model, base = self.model, import_module("kserve").Model
        begin, end = Step.of_value(_begin), Step.of_both(_end)
        if not isinstance(model, base) or type(model).__call__ is not base.__call__:
            return [begin, _whole(model, verb), end]
        # Headers to send back are for predict and postprocess, if the class asked for them.
        arguments = 3 if getattr(model, "required_response_headers", False) else 2
        validate = Step.of_value(_guarded(lambda exchange: _validate(model, exchange)))
        before = [_hook(model.preprocess, 2)] if _overrides(model, "preprocess", base) else []
        main = _hook(model.explain, 2) if verb == EXPLAIN else _hook(model.predict, arguments)
        after = [_hook(model.postprocess, arguments)] if _overrides(model, "postprocess", base) else []
        return [begin, *before, validate, main, *after, end]


def _overrides(model: Any, name: str, base: Any) -> bool:
    return getattr(getattr(model, name), "__func__", None) is not getattr(base, name)


def _begin(request: InferRequest) -> Exchange:
    value = request.payload if request.is_v1 else kserve_request(request)
    return Exchange(value, dict(request.headers), request.response_headers)


def _validate(model: Any, exchange: Exchange) -> Exchange:
    exchange.value = model.validate(exchange.value)
    return exchange


def _hook(function: Callable[..., Any], arguments: int) -> Step:
    """A step that calls a hook with so many of value, headers and response headers, or as many as it takes."""
    count = min(arguments, _positional(function))

    if inspect.iscoroutinefunction(function):

        async def call_async(exchange: Exchange) -> Exchange:
            try:
                exchange.value = await function(*_arguments(exchange)[:count])
            except Exception as error:  # Whatever a hook raises, in this server's terms.
                raise translated(error) from error
            return exchange

        return Step.of_value(call_async)

    def call(exchange: Exchange) -> Exchange:
        exchange.value = function(*_arguments(exchange)[:count])
        return exchange

    return Step.of_value(_guarded(call))


def _whole(model: Any, verb: str) -> Step:
    """A model that is called as a whole: it defines `__call__` itself."""
    verbs = import_module("kserve.model").InferenceVerb
    chosen = verbs.EXPLAIN if verb == EXPLAIN else verbs.PREDICT

    async def call(exchange: Exchange) -> Exchange:
        try:
            answer = await model(exchange.value, headers=exchange.headers, verb=chosen)
        except Exception as error:  # As in hooks.
            raise translated(error) from error
        exchange.value, headers = answer if isinstance(answer, tuple) else (answer, {})
        exchange.response_headers.update(headers)
        return exchange

    return Step.of_value(call)


def _guarded(function: Callable[[Exchange], Exchange]) -> Callable[[Exchange], Exchange]:
    def call(exchange: Exchange) -> Exchange:
        try:
            return function(exchange)
        except Exception as error:  # As in hooks.
            raise translated(error) from error

    return call


def _arguments(exchange: Exchange) -> tuple[Any, ...]:
    return exchange.value, exchange.headers, exchange.response_headers


def _positional(function: Callable[..., Any]) -> int:
    """How many positional arguments a function takes; models for older KServes take fewer than today's get."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 3
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )


def _end(exchange: Exchange, request: InferRequest) -> Any:
    """The answer in a form that the server takes, and that leaves a client of KServe the same bytes."""
    value = exchange.value
    if not request.is_v1:
        response = response_of(value, request)
        return value if response is None else response
    if isinstance(value, import_module("kserve").InferResponse):
        body, json_length = value.to_rest()
        if json_length is None:
            return body
        return Response(200, body, content_type=OCTETS, headers=((_JSON_LENGTH, b"%d" % json_length),))
    if isinstance(value, Mapping | str | bytes | AsyncIterator):
        return value
    return Response(200, encode(value))  # A list is the whole answer, not its predictions.


async def _value_of(function: Callable[[], Any]) -> Any:
    result = function()
    return await result if inspect.isawaitable(result) else result


def _tensor_metadata(item: Mapping[str, Any]) -> TensorMetadata:
    try:
        return TensorMetadata(item["name"], item["datatype"], tuple(item["shape"]))
    except (KeyError, TypeError):
        raise BadModel(
            f"get_input_types and get_output_types list name, datatype and shape each, got {item!r}"
        ) from None


def _driven(health: Any) -> Any:
    """What a `healthy` says that waits for nothing; None for one that waits, as a request cannot wait for it."""
    if not inspect.iscoroutine(health):
        return health
    try:
        health.send(None)
    except StopIteration as done:
        return done.value
    health.close()
    return None
