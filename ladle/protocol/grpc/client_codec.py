"""The gRPC protocol from the client's side: requests to messages, messages to responses. Tensors travel as raw bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ladle.errors import InvalidInput
from ladle.protocol.datatypes import datatype_named
from ladle.protocol.grpc.codec import encode_parameters
from ladle.protocol.grpc.schema import message_class
from ladle.protocol.messages import InferResponse
from ladle.protocol.tensor import Parameters, Tensor, raw_of, shaped_bytes, tensor_from_raw, tensor_of

ModelInferRequest = message_class("inference.ModelInferRequest")


def encode_request(
    model_name: str,
    tensors: Sequence[Tensor],
    *,
    request_id: str,
    parameters: Parameters,
) -> Any:
    """The ModelInferRequest."""
    message = ModelInferRequest(model_name=model_name, id=request_id)
    encode_parameters(parameters, message.parameters)
    for tensor in tensors:
        item = message.inputs.add(name=tensor.name, datatype=tensor.datatype.name, shape=tensor.shape)
        encode_parameters(tensor.parameters, item.parameters)
        message.raw_input_contents.append(bytes(raw_of(tensor)))
    return message


def decode_response(message: Any) -> InferResponse:
    """The response that a ModelInferResponse stands for; InvalidInput where it does not add up."""
    raws = message.raw_output_contents
    if raws and len(raws) != len(message.outputs):
        raise InvalidInput(f"raw_output_contents has {len(raws)} entries for {len(message.outputs)} outputs")
    outputs = tuple(
        _from_raw(item, raws[index]) if raws else _from_contents(item) for index, item in enumerate(message.outputs)
    )
    return InferResponse(
        model_name=message.model_name, id=message.id, outputs=outputs, model_version=message.model_version
    )


def _from_raw(item: Any, raw: bytes) -> Tensor:
    return tensor_from_raw(
        item.name, datatype_named(item.datatype, tensor=item.name), tuple(item.shape), memoryview(raw)
    )


def _from_contents(item: Any) -> Tensor:
    datatype, shape = datatype_named(item.datatype, tensor=item.name), tuple(item.shape)
    values = next((list(values) for _, values in item.contents.ListFields()), [])
    if datatype.name == "BYTES":
        return Tensor(item.name, datatype, shaped_bytes(item.name, datatype, shape, values))
    tensor = tensor_of(item.name, values, datatype.name)
    try:
        return Tensor(item.name, datatype, tensor.array.reshape(shape))
    except ValueError:
        raise InvalidInput(f"output '{item.name}': {len(values)} elements for shape {list(shape)}") from None
