"""What models return, as the body of V1 and as the tensors of V2.

A model may return an array, a list, a table, a mapping of names to arrays, a whole InferResponse, or, for V1, any JSON
object; the client's protocol decides what becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladle.errors import InferenceError, InvalidInput
from ladle.protocol.messages import InferRequest, InferResponse
from ladle.protocol.tables import is_table, tensors_of_table
from ladle.protocol.tensor import Tensor, tensor_of

DEFAULT_OUTPUT = "output-0"
"""Name of the only output of a model that names none; KServe's servers use it."""


def v1_body(result: object) -> object:
    """The JSON body of a V1 answer: an object as it is, anything else under "predictions"."""
    if isinstance(result, InferResponse):
        return {"predictions": _rows(result.outputs)}
    if isinstance(result, list | tuple) and _are_tensors(result):
        return {"predictions": _rows(tuple(result))}
    if isinstance(result, Mapping):
        return result
    return {"predictions": result}


def _rows(outputs: tuple[Tensor, ...]) -> object:
    """One output is its own rows; of several, each row is an object with all of them."""
    values = {tensor.name: _listed(tensor) for tensor in outputs}
    if len(values) == 1:
        return next(iter(values.values()))
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=False)]


def _listed(tensor: Tensor) -> Any:
    return (tensor.strings() if tensor.datatype.name == "BYTES" else tensor.array).tolist()


def v2_response(result: object, request: InferRequest) -> InferResponse:
    """The V2 answer, with those outputs that the request lists, in its order; InferenceError where there is no tensor form."""
    if isinstance(result, InferResponse):
        response = result
    else:
        try:
            outputs = _tensors(result)
        except (TypeError, ValueError) as error:
            raise InferenceError(f"the model's answer has no tensor form: {error}") from error
        response = InferResponse(model_name=request.model_name, id=request.id, outputs=outputs)
    if not request.outputs:
        return response
    return InferResponse(
        model_name=response.model_name,
        id=response.id,
        outputs=tuple(_requested(response, wanted.name) for wanted in request.outputs),
        model_version=response.model_version,
        parameters=response.parameters,
    )


def _tensors(result: object) -> tuple[Tensor, ...]:
    if isinstance(result, np.ndarray):
        return (tensor_of(DEFAULT_OUTPUT, result),)
    if isinstance(result, Tensor):
        return (result,)
    if is_table(result):
        return tensors_of_table(result)
    if isinstance(result, Mapping):
        if set(result) == {"predictions"}:
            return _tensors(result["predictions"])  # A model that was written for V1.
        return tuple(tensor_of(str(name), values) for name, values in result.items())
    if isinstance(result, list | tuple) and _are_tensors(result):
        return tuple(result)
    return (tensor_of(DEFAULT_OUTPUT, result),)


def _are_tensors(items: list[Any] | tuple[Any, ...]) -> bool:
    return bool(items) and all(isinstance(item, Tensor) for item in items)


def _requested(response: InferResponse, name: str) -> Tensor:
    try:
        return response.output(name)
    except KeyError:
        known = [tensor.name for tensor in response.outputs]
        raise InvalidInput(f"output '{name}' is unknown, the model has {known}") from None
