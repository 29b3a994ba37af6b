"""The Open Inference Protocol over REST: bodies to requests, responses to bodies.

Covers plain JSON and the binary tensor extension, whose body is JSON followed by the raw bytes of the tensors, in the
order in which the JSON names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ladle.errors import InvalidInput, MissingField
from ladle.protocol.datatypes import datatype_named
from ladle.protocol.ids import new_id
from ladle.protocol.json import decode, encode
from ladle.protocol.messages import InferRequest, InferResponse, RequestedOutput
from ladle.protocol.tensor import (
    NO_PARAMETERS,
    Parameters,
    Tensor,
    json_data_of,
    raw_of,
    refuse_shared_memory,
    tensor_from_json,
    tensor_from_raw,
)

_BINARY_SIZE = "binary_data_size"
_BINARY_DATA = "binary_data"
_BINARY_OUTPUT = "binary_data_output"
_RANK_MAX = 32
"""More dimensions than numpy 1 has."""


@dataclass(slots=True)
class EncodedResponse:
    """A body in pieces. `json_length` is what the header `inference-header-content-length` says; None for plain JSON."""

    pieces: tuple[bytes | memoryview, ...]
    json_length: int | None


def decode_request(
    model_name: str, body: bytes | bytearray | memoryview, json_length: int | None, headers: Any = NO_PARAMETERS
) -> InferRequest:
    """The request that a body stands for; `json_length` is where its JSON ends, None where all of it is JSON."""
    view = memoryview(body)
    if json_length is not None and not 0 <= json_length <= len(view):
        raise InvalidInput(f"inference-header-content-length = {json_length}, must be in [0, {len(view)}]")
    message = decode(body if json_length is None else view[:json_length])
    if not isinstance(message, dict):
        raise InvalidInput("the body must be a JSON object")
    raw = view[len(view) if json_length is None else json_length :]
    return InferRequest(
        model_name=model_name,
        id=_request_id(message.get("id")),
        inputs=_decode_inputs(_required_list(message, "inputs"), raw),
        outputs=_decode_outputs(message.get("outputs")),
        parameters=_parameters(message.get("parameters"), "parameters"),
        headers=headers,
        size_bytes=len(view),
    )


def _decode_inputs(inputs: list[Any], raw: memoryview) -> tuple[Tensor, ...]:
    tensors = []
    for index, item in enumerate(inputs):
        tensor, used = _decode_input(item, index, raw)
        tensors.append(tensor)
        raw = raw[used:]
    if len(raw):
        raise InvalidInput(f"{len(raw)} bytes follow the last input's data")
    return tuple(tensors)


def _decode_input(item: object, index: int, raw: memoryview) -> tuple[Tensor, int]:
    """The tensor, and how many of the raw bytes are its."""
    if not isinstance(item, dict):
        raise InvalidInput(f"inputs[{index}] must be an object")
    for key in ("name", "shape", "datatype"):
        if key not in item:
            raise MissingField("inputs", index, key)
    name, shape = item["name"], _shape(item["shape"], index)
    if not isinstance(name, str):
        raise InvalidInput(f"inputs[{index}].name must be a string")
    datatype = datatype_named(item["datatype"], tensor=name)
    given = item.get("parameters")
    parameters = _parameters(given, f"inputs[{index}].parameters") if given else NO_PARAMETERS
    refuse_shared_memory(parameters, f"input '{name}'")
    size = parameters.get(_BINARY_SIZE)
    if size is None:
        if "data" not in item:
            raise MissingField("inputs", index, "data")
        if not isinstance(item["data"], list):
            raise InvalidInput(f"inputs[{index}].data must be a list")
        tensor = tensor_from_json(name, datatype, shape, item["data"])
        size = 0
    else:
        if "data" in item:
            raise InvalidInput(f"input '{name}': has both data and {_BINARY_SIZE}")
        if not isinstance(size, int) or not 0 <= size <= len(raw):
            raise InvalidInput(f"input '{name}': {_BINARY_SIZE} = {size}, but {len(raw)} bytes are left in the body")
        tensor = tensor_from_raw(name, datatype, shape, raw[:size])
    if parameters:
        tensor.parameters = parameters
    return tensor, int(size)


def _shape(value: object, index: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _RANK_MAX:
        raise InvalidInput(f"inputs[{index}].shape must be a list of at most {_RANK_MAX} integers")
    for length in value:
        if type(length) is not int or not 0 <= length < 2**31:
            raise InvalidInput(f"inputs[{index}].shape = {value}, every dimension must be an integer in [0, 2^31)")
    return tuple(value)


def _decode_outputs(value: object) -> tuple[RequestedOutput, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidInput("outputs must be a list")
    wanted = []
    for index, item in enumerate(value):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise MissingField("outputs", index, "name")
        parameters = _parameters(item.get("parameters"), f"outputs[{index}].parameters")
        refuse_shared_memory(parameters, f"output '{item['name']}'")
        wanted.append(RequestedOutput(item["name"], parameters))
    return tuple(wanted)


def _required_list(message: dict[str, Any], key: str) -> list[Any]:
    if key not in message:
        raise MissingField(key)
    value = message[key]
    if not isinstance(value, list):
        raise InvalidInput(f"{key} must be a list")
    return value


def _request_id(value: object) -> str:
    if value is None or value == "":
        return new_id()
    if not isinstance(value, str):
        raise InvalidInput("id must be a string")
    return value


def _parameters(value: object, where: str) -> Parameters:
    if not value:
        return NO_PARAMETERS
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} must be an object")
    for key, item in value.items():
        if not isinstance(item, str | int | float | bool):
            raise InvalidInput(f"{where}.{key} must be a string, a number or a boolean")
    return value


def encode_response(response: InferResponse, request: InferRequest) -> EncodedResponse:
    """The body, with those outputs in binary form that the request asked for so; InvalidInput where JSON cannot hold one."""
    raws: list[bytes | memoryview] = []
    message: dict[str, Any] = {"model_name": response.model_name}
    if response.model_version:
        message["model_version"] = response.model_version
    message["id"] = response.id
    if response.parameters:
        message["parameters"] = response.parameters
    message["outputs"] = [_encode_output(output, _in_binary(output.name, request), raws) for output in response.outputs]
    head = encode(message)
    return EncodedResponse((head, *raws), len(head) if raws else None)


def _encode_output(tensor: Tensor, binary: bool, raws: list[bytes | memoryview]) -> dict[str, Any]:
    item: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype.name}
    if tensor.parameters:
        item["parameters"] = tensor.parameters
    if binary:
        raw = raw_of(tensor)
        raws.append(raw)
        item["parameters"] = {**tensor.parameters, _BINARY_SIZE: len(raw)}
    else:
        item["data"] = json_data_of(tensor)
    return item


def _in_binary(name: str, request: InferRequest) -> bool:
    """The wish for all outputs holds where none is listed; a listed one without a wish of its own stays JSON."""
    if not request.outputs:
        return bool(request.parameters.get(_BINARY_OUTPUT, False))
    return any(wanted.name == name and bool(wanted.parameters.get(_BINARY_DATA, False)) for wanted in request.outputs)
