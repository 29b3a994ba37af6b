"""Requests as KServe's classes, and its answers as ours.

KServe turns each tensor into a Python list, which takes longer than most models. Here `as_numpy` gives the array itself,
and the list is made when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from ladle.errors import InferenceError, InvalidInput
from ladle.protocol.datatypes import datatype_named
from ladle.protocol.messages import InferRequest, InferResponse
from ladle.protocol.tensor import NO_PARAMETERS, Array, Parameters, Tensor, raw_of, shaped_bytes, tensor_from_raw

_BINARY_SIZE = "binary_data_size"
_UNSET = object()
_OF_THE_WIRE = (_BINARY_SIZE, "binary_data")
"""Parameters of outputs that say how they travel; the server sets its own."""


@lru_cache
def _classes() -> tuple[type[Any], type[Any]]:
    """KServe's InferInput and InferRequest over our tensors; made when its package is there, which users bring."""
    infer_type: Any = import_module("kserve.protocol.infer_type")

    class TensorInput(infer_type.InferInput):  # type: ignore[misc]  # kserve is not there when types are checked.
        def __init__(self, tensor: Tensor, *, over_grpc: bool, raw: bool) -> None:
            self._tensor = tensor
            self._over_grpc = over_grpc
            self._raw = raw
            parameters = {key: value for key, value in tensor.parameters.items() if key != _BINARY_SIZE}
            super().__init__(tensor.name, list(tensor.shape), tensor.datatype.name, parameters=parameters)
            self._values: Any = _UNSET
            self._bytes: Any = _UNSET

        @property
        def _data(self) -> Any:
            if self._values is _UNSET:
                self._values = [] if self._raw else _listed(self._tensor, over_grpc=self._over_grpc)
            return self._values

        @_data.setter
        def _data(self, values: Any) -> None:
            self._values = values

        @property
        def _raw_data(self) -> Any:
            if self._bytes is _UNSET:
                self._bytes = bytes(raw_of(self._tensor)) if self._raw else None
            return self._bytes

        @_raw_data.setter
        def _raw_data(self, raw: Any) -> None:
            self._bytes = raw

        def as_numpy(self) -> Any:
            if self._values is not _UNSET or self._bytes is not _UNSET or list(self._tensor.shape) != self._shape:
                return super().as_numpy()
            return _array(self._tensor, over_grpc=self._over_grpc)

    class TensorRequest(infer_type.InferRequest):  # type: ignore[misc]  # As above.
        raw = False

        @property
        def use_binary_outputs(self) -> bool:
            return self.raw or bool(super().use_binary_outputs)

    return TensorInput, TensorRequest


def kserve_request(request: InferRequest) -> Any:
    """The request as a kserve.InferRequest."""
    infer_type = import_module("kserve.protocol.infer_type")
    input_class, request_class = _classes()
    raw = request.raw_contents
    made = request_class(
        model_name=request.model_name,
        infer_inputs=[input_class(tensor, over_grpc=request.over_grpc, raw=raw) for tensor in request.inputs],
        request_id=request.id,
        from_grpc=request.over_grpc,
        parameters=_kserve_parameters(request),
        request_outputs=[infer_type.RequestedOutput(wanted.name, dict(wanted.parameters)) for wanted in request.outputs]
        or None,
    )
    made.raw = raw
    return made


def _kserve_parameters(request: InferRequest) -> dict[str, Any]:
    """Plain values over REST; over gRPC kserve leaves them in their messages."""
    if not request.over_grpc:
        return dict(request.parameters)
    message = import_module("kserve.protocol.grpc.grpc_predict_v2_pb2").InferParameter
    return {key: message(**{_choice_of(value): value}) for key, value in request.parameters.items()}


def _choice_of(value: object) -> str:
    if isinstance(value, bool):
        return "bool_param"
    return "int64_param" if isinstance(value, int) else "string_param"


def _listed(tensor: Tensor, *, over_grpc: bool) -> Any:
    """The data as the client sent them: nested as in its JSON, else flat; texts as `str` over REST, `bytes` over gRPC."""
    if tensor.source is not None:
        return tensor.source
    if tensor.datatype.name == "BYTES" and not over_grpc:
        return tensor.strings().reshape(-1).tolist()
    return tensor.array.reshape(-1).tolist()


def _array(tensor: Tensor, *, over_grpc: bool) -> Array:
    """One that the model may write into, as over REST in KServe; ours may lie in the request."""
    if tensor.datatype.name == "BYTES" and not over_grpc:
        return tensor.strings()
    return tensor.array if tensor.array.flags.writeable else tensor.array.copy()


def response_of(result: Any, request: InferRequest) -> InferResponse | None:
    """What a model answered to a V2 request, where it did so in one of KServe's forms; None for any other form.

    Those are kserve.InferResponse, the gRPC message, and an object with "outputs" (for gRPC with "contents" in each).
    """
    infer_type = import_module("kserve.protocol.infer_type")
    message = import_module("kserve.protocol.grpc.grpc_predict_v2_pb2").ModelInferResponse
    if isinstance(result, message):
        result = infer_type.InferResponse.from_grpc(result)
    if isinstance(result, infer_type.InferResponse):
        outputs = tuple(_tensor_of_output(output) for output in result.outputs)
        fields: Mapping[str, Any] = {
            "id": result.id,
            "model_version": result.model_version,
            "parameters": result.parameters,
        }
    elif isinstance(result, Mapping) and isinstance(result.get("outputs"), list):
        outputs, fields = tuple(_tensor_of_item(item) for item in result["outputs"]), result
    else:
        return None
    return InferResponse(
        model_name=request.model_name,
        id=fields.get("id") or request.id,
        outputs=outputs,
        model_version=fields.get("model_version") or "",
        parameters=_plain(fields.get("parameters")),
    )


def _tensor_of_output(output: Any) -> Tensor:
    data, raw = output.data, getattr(output, "_raw_data", None)
    if raw is not None and not isinstance(data, np.ndarray):  # As kserve itself prefers them.
        data = memoryview(raw)
    return _tensor(output.name, output.datatype, output.shape, data, output.parameters)


def _tensor_of_item(item: Mapping[str, Any]) -> Tensor:
    try:
        data = next(iter(item["contents"].values())) if "contents" in item else item["data"]
        return _tensor(item["name"], item["datatype"], item["shape"], data, item.get("parameters"))
    except (KeyError, TypeError, StopIteration, AttributeError):
        raise InferenceError(
            "the model's answer: each of its outputs needs name, shape, datatype, and data or contents"
        ) from None


def _tensor(name: str, datatype: str, shape: Sequence[int], data: Any, parameters: Any) -> Tensor:
    try:
        kind = datatype_named(datatype, tensor=name)
        sizes = tuple(int(length) for length in shape)
        if isinstance(data, memoryview):
            tensor = tensor_from_raw(name, kind, sizes, data)
        elif kind.name == "BYTES":
            flat = np.asarray(data, dtype=object).reshape(-1)
            tensor = Tensor(name, kind, shaped_bytes(name, kind, sizes, [_encoded(element) for element in flat]))
        else:
            tensor = Tensor(name, kind, np.asarray(data, dtype=kind.dtype).reshape(sizes))
    except (InvalidInput, TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"input '{name}': ")
        raise InferenceError(
            f"the model's output '{name}' is no {datatype} of shape {list(shape)}: {reason}"
        ) from error
    tensor.parameters = {key: value for key, value in _plain(parameters).items() if key not in _OF_THE_WIRE}
    return tensor


def _encoded(element: object) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()


def _plain(parameters: Any) -> Parameters:
    """Parameters as plain values; kserve leaves those of gRPC in their messages."""
    if not parameters:
        return NO_PARAMETERS
    return {key: _plain_value(value) for key, value in parameters.items()}


def _plain_value(value: Any) -> Any:
    chosen = value.WhichOneof("parameter_choice") if hasattr(value, "WhichOneof") else None
    return getattr(value, chosen) if chosen else value
