"""The Open Inference Protocol over REST from the client's side: requests to bodies, bodies to responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ladle.errors import InvalidInput
from ladle.protocol.datatypes import datatype_named
from ladle.protocol.json import decode, encode
from ladle.protocol.messages import InferResponse
from ladle.protocol.tensor import (
    NO_PARAMETERS,
    Parameters,
    Tensor,
    json_data_of,
    raw_of,
    tensor_from_json,
    tensor_from_raw,
)

_BINARY_SIZE = "binary_data_size"
_BINARY_OUTPUT = "binary_data_output"


def encode_request(
    tensors: Sequence[Tensor],
    *,
    request_id: str,
    parameters: Parameters,
    binary: bool,
) -> tuple[bytes, int | None]:
    """A request's body, and where its JSON ends; None where all of it is JSON.

    What JSON cannot carry (16-bit floats, bytes that are no text) is sent in binary form anyway.
    """
    raws: list[bytes | memoryview] = []
    message: dict[str, Any] = {"id": request_id} if request_id else {}
    inputs = [_encode_input(tensor, raws, binary=binary) for tensor in tensors]
    wishes = {**parameters, _BINARY_OUTPUT: True} if binary or raws else dict(parameters)
    head = encode({**message, **({"parameters": wishes} if wishes else {}), "inputs": inputs})
    return b"".join((head, *raws)), len(head) if raws else None


def _encode_input(tensor: Tensor, raws: list[bytes | memoryview], *, binary: bool) -> dict[str, Any]:
    given = {key: value for key, value in tensor.parameters.items() if key != _BINARY_SIZE}
    item: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype.name}
    if not binary:
        try:
            return {**item, **({"parameters": given} if given else {}), "data": json_data_of(tensor)}
        except InvalidInput:  # Not in JSON: in binary form below.
            given = dict(given)
    raws.append(raw_of(tensor))
    return {**item, "parameters": {**given, _BINARY_SIZE: len(raws[-1])}}


def decode_response(body: bytes, json_length: int | None) -> InferResponse:
    """The response that a body stands for; InvalidInput where it is none."""
    view = memoryview(body)
    message = decode(body if json_length is None else view[:json_length])
    if not isinstance(message, dict) or not isinstance(message.get("outputs"), list):
        raise InvalidInput('expected a JSON object with a list of "outputs"')
    raw = view[len(view) if json_length is None else json_length :]
    outputs = []
    for item in message["outputs"]:
        tensor, used = _decode_output(item, raw)
        outputs.append(tensor)
        raw = raw[used:]
    return InferResponse(
        model_name=str(message.get("model_name", "")),
        id=str(message.get("id") or ""),
        outputs=tuple(outputs),
        model_version=str(message.get("model_version") or ""),
        parameters=message.get("parameters") or NO_PARAMETERS,
    )


def _decode_output(item: Any, raw: memoryview) -> tuple[Tensor, int]:
    try:
        name, shape = item["name"], tuple(int(length) for length in item["shape"])
        datatype = datatype_named(item["datatype"], tensor=name)
        parameters = item.get("parameters") or NO_PARAMETERS
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"an output lacks name, shape or datatype: {error}") from None
    size = parameters.get(_BINARY_SIZE)
    if size is None:
        tensor = tensor_from_json(name, datatype, shape, item.get("data", []))
    else:
        tensor = tensor_from_raw(name, datatype, shape, raw[: int(size)])
    rest = {key: value for key, value in parameters.items() if key != _BINARY_SIZE}
    return Tensor(tensor.name, tensor.datatype, tensor.array, rest or NO_PARAMETERS), int(size or 0)
