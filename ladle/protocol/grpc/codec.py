"""Messages of the gRPC protocol to requests, responses to messages.

Tensors come in typed contents or as raw bytes, all of a request one way or all the other; they go out as they came in.
16-bit floats have no typed contents and are always raw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladle.errors import InvalidInput
from ladle.protocol.datatypes import Datatype, datatype_named
from ladle.protocol.grpc.schema import message_class
from ladle.protocol.ids import new_id
from ladle.protocol.messages import InferRequest, InferResponse, RequestedOutput
from ladle.protocol.tensor import (
    NO_PARAMETERS,
    Array,
    Parameters,
    Tensor,
    raw_of,
    refuse_shared_memory,
    shaped_bytes,
    tensor_from_raw,
)

ModelInferResponse = message_class("inference.ModelInferResponse")
_RANK_MAX = 32
"""More dimensions than numpy 1 has."""
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where each datatype lies in typed contents."""
_WIRE_DTYPES = {"int_contents": "<i4", "uint_contents": "<u4"}
"""What fields hold that are shared by datatypes; the others hold their only datatype."""


def decode_request(message: Any, headers: Mapping[str, str], size_bytes: int) -> InferRequest:
    """The request that a ModelInferRequest of so many bytes stands for; InvalidInput where it does not add up."""
    raws = message.raw_input_contents
    inputs = message.inputs
    for item in inputs:  # First: a tensor in shared memory has no raw contents either.
        refuse_shared_memory(item.parameters, f"input '{item.name}'")
    if raws and len(raws) != len(inputs):
        raise InvalidInput(f"raw_input_contents has {len(raws)} entries, expected one for each of {len(inputs)} inputs")
    tensors = [_decode_raw(item, raws[index]) if raws else _decode_contents(item) for index, item in enumerate(inputs)]
    return InferRequest(
        model_name=message.model_name,
        id=message.id or new_id(),
        inputs=tuple(tensors),
        outputs=tuple(_decode_output(item) for item in message.outputs),
        parameters=_decode_parameters(message.parameters),
        headers=headers,
        size_bytes=size_bytes,
        over_grpc=True,
        raw_contents=bool(raws),
    )


def _decode_raw(item: Any, raw: bytes) -> Tensor:
    if item.HasField("contents"):
        raise InvalidInput(f"input '{item.name}': has contents although raw_input_contents are given")
    tensor = tensor_from_raw(item.name, datatype_named(item.datatype, tensor=item.name), _shape(item), memoryview(raw))
    return _with_parameters(tensor, item)


def _decode_contents(item: Any) -> Tensor:
    name, datatype, shape = item.name, datatype_named(item.datatype, tensor=item.name), _shape(item)
    field = _CONTENTS.get(datatype.name)
    if field is None:
        raise InvalidInput(f"input '{name}': {datatype.name} has no typed contents, send it in raw_input_contents")
    values = getattr(item.contents, field)
    build = shaped_bytes if datatype.name == "BYTES" else _numbers
    array = build(name, datatype, shape, values)
    return _with_parameters(Tensor(name, datatype, array), item)


def _numbers(name: str, datatype: Datatype, shape: tuple[int, ...], values: Any) -> Array:
    # The dtype is given, since numpy would make float64 of some lists of large integers.
    array = np.asarray(values, dtype=_WIRE_DTYPES.get(_CONTENTS[datatype.name], datatype.dtype))
    if array.size != int(np.prod(shape, dtype=np.int64)):
        field, expected = _CONTENTS[datatype.name], f"{datatype.name} of shape {list(shape)}"
        raise InvalidInput(f"input '{name}': {field} has {array.size} elements, expected {expected}")
    converted = array.astype(datatype.dtype)
    if datatype.size_bytes < 4 and not np.array_equal(converted, array):  # 8 and 16 bits travel in fields of 32.
        raise InvalidInput(f"input '{name}': contents hold values outside {datatype.name}")
    return converted.reshape(shape)


def _shape(item: Any) -> tuple[int, ...]:
    shape = tuple(item.shape)
    if len(shape) > _RANK_MAX or any(not 0 <= length < 2**31 for length in shape):
        raise InvalidInput(f"input '{item.name}': shape {list(shape)}, every dimension must be in [0, 2^31)")
    return shape


def _with_parameters(tensor: Tensor, item: Any) -> Tensor:
    if item.parameters:
        tensor.parameters = _decode_parameters(item.parameters)
    return tensor


def _decode_output(item: Any) -> RequestedOutput:
    parameters = _decode_parameters(item.parameters)
    refuse_shared_memory(parameters, f"output '{item.name}'")
    return RequestedOutput(item.name, parameters)


def _decode_parameters(given: Any) -> Parameters:
    if not given:
        return NO_PARAMETERS
    return {key: _decode_parameter(key, value) for key, value in given.items()}


def _decode_parameter(key: str, value: Any) -> Any:
    chosen = value.WhichOneof("choice")
    if chosen is None:
        raise InvalidInput(f"parameters.{key} has no value")
    return getattr(value, chosen)


def encode_response(response: InferResponse, *, raw: bool) -> Any:
    """The ModelInferResponse; with raw contents where `raw`, or where an output has no typed ones."""
    message = ModelInferResponse(model_name=response.model_name, model_version=response.model_version, id=response.id)
    encode_parameters(response.parameters, message.parameters)
    raw = raw or any(output.datatype.name not in _CONTENTS for output in response.outputs)
    for output in response.outputs:
        item = message.outputs.add(name=output.name, datatype=output.datatype.name, shape=output.shape)
        encode_parameters(output.parameters, item.parameters)
        if raw:
            message.raw_output_contents.append(bytes(raw_of(output)))
        else:
            getattr(item.contents, _CONTENTS[output.datatype.name]).extend(_flat(output))
    return message


def _flat(output: Tensor) -> list[Any]:
    if output.datatype.name == "BYTES":
        return [element if isinstance(element, bytes) else str(element).encode() for element in output.array.flat]
    flat: list[Any] = output.array.reshape(-1).tolist()
    return flat


def encode_parameters(parameters: Parameters, target: Any) -> None:
    """Adds parameters to a message's map of them."""
    for key, value in parameters.items():
        if isinstance(value, bool):
            target[key].bool_param = value
        elif isinstance(value, int):
            target[key].int64_param = value
        elif isinstance(value, float):
            target[key].double_param = value
        else:
            target[key].string_param = value
