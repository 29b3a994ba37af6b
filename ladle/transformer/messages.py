"""What goes to a predictor and what comes back, whichever protocol lies between.

A transformer's `preprocess` may return the request itself, an array, tensors, a mapping of names to arrays, or a V1 body;
the predictor's protocol decides which form it takes. A batch stays one request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ladle.errors import InferenceError, InvalidInput
from ladle.protocol.messages import InferRequest, InferResponse
from ladle.protocol.results import v1_body, v2_response
from ladle.protocol.tables import tensors_of_table
from ladle.protocol.tensor import NO_PARAMETERS, Array, Parameters, Tensor, tensor_of

DEFAULT_INPUT = "input-0"
"""Name of the only input where nobody named one; KServe's clients use it."""
_V1_KEYS = frozenset({"instances", "inputs"})
_OUR_PARAMETERS = frozenset({"binary_data_output"})
"""Wishes of the client for our answer to it."""


@dataclass(slots=True, kw_only=True)
class Question:
    """One request for the predictor: `payload` for V1, `tensors` for V2 and gRPC."""

    model_name: str
    id: str = ""
    payload: object = None
    tensors: tuple[Tensor, ...] = ()
    parameters: Parameters = field(default_factory=lambda: NO_PARAMETERS)
    headers: Mapping[str, str] = field(default_factory=dict)
    """To be passed on."""
    deadline_s: float
    """On the monotonic clock: when nobody waits for the answer any more."""

    def as_array(self) -> Array:
        """The rows, as the predictor would see them."""
        if isinstance(self.payload, Mapping):
            return np.asarray(self.payload.get("inputs", self.payload.get("instances")))
        return InferRequest(model_name=self.model_name, inputs=self.tensors).as_array()


@dataclass(slots=True, kw_only=True)
class Prediction:
    """A predictor's answer: `payload`, the JSON of V1, or `response`, the tensors of V2 and gRPC."""

    payload: object = None
    response: InferResponse | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """The answer's own, by lower-case name; over gRPC its initial metadata."""

    @property
    def value(self) -> object:
        """In the form in which a model answers."""
        return self.payload if self.response is None else self.response

    @property
    def predictions(self) -> Any:
        """One entry for each row, as V1 has them; InferenceError where the answer has none."""
        body = v1_body(self.value)
        if not isinstance(body, Mapping) or "predictions" not in body:
            raise InferenceError(f"the predictor's answer has no predictions, it has {sorted(_keys(body))}")
        return body["predictions"]

    def as_array(self, name: str = "") -> Array:
        """An output `(rows, ...)` by its name, or the only or first one."""
        if self.response is None:
            return np.asarray(self.predictions)
        try:
            tensor = self.response.output(name) if name else self.response.outputs[0]
        except (KeyError, IndexError):
            known = [output.name for output in self.response.outputs]
            raise InferenceError(f"the predictor has no output '{name}', it has {known}") from None
        return tensor.strings() if tensor.datatype.name == "BYTES" else tensor.array


class Predictor(Protocol):
    """Whoever answers questions: a server over the network, or a test's stand-in."""

    async def ask(self, question: Question) -> Prediction:
        """The answer; StatusError with the predictor's own status where it refuses, 502 to 504 where there is none."""
        ...

    async def close(self) -> None:
        """Lets connections go."""
        ...


def v1_payload(value: object) -> object:
    """The V1 body that `preprocess` meant."""
    if isinstance(value, InferRequest):
        return value.payload if value.is_v1 else {"instances": _rows(value.inputs)}
    if isinstance(value, Mapping) and _V1_KEYS & set(value):
        return value
    if isinstance(value, np.ndarray | list) and not _are_tensors(value):
        return {"instances": value}
    return {"instances": _rows(v2_tensors(value)[0])}


def v2_tensors(value: object) -> tuple[tuple[Tensor, ...], Parameters]:
    """The tensors that `preprocess` meant, and parameters that go with them."""
    if isinstance(value, InferRequest):
        return _tensors_of_request(value)
    if isinstance(value, Mapping) and len(value) == 1 and _V1_KEYS & set(value):
        value = next(iter(value.values()))
    try:
        request = InferRequest(model_name="")
        made = v2_response(value, request).outputs
    except InferenceError as error:
        raise InferenceError(f"preprocess returned what has no tensor form: {error}") from error
    unnamed = len(made) == 1 and not isinstance(value, Mapping | Tensor) and not _are_tensors(value)
    if unnamed:
        made = (Tensor(DEFAULT_INPUT, made[0].datatype, made[0].array),)
    return made, NO_PARAMETERS


def _tensors_of_request(request: InferRequest) -> tuple[tuple[Tensor, ...], Parameters]:
    if not request.is_v1:
        kept = {key: value for key, value in request.parameters.items() if key not in _OUR_PARAMETERS}
        return request.inputs, kept
    if request.wants_table:
        return tensors_of_table(request.as_dataframe()), {"content_type": "pd"}
    try:
        return (tensor_of(DEFAULT_INPUT, request.as_array()),), NO_PARAMETERS
    except TypeError as error:
        raise InvalidInput(f'"instances" has no tensor form: {error}') from None


def _rows(tensors: Sequence[Tensor]) -> object:
    body = v1_body(list(tensors))
    assert isinstance(body, Mapping)
    return body["predictions"]


def _are_tensors(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Tensor) for item in value)


def _keys(body: object) -> Sequence[str]:
    return [str(key) for key in body] if isinstance(body, Mapping) else [type(body).__name__]
