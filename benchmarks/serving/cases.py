"""What is asked: one request for each protocol, the same for every server, and whether an answer to it is right."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import orjson

from ladle.protocol.grpc.schema import INFERENCE_SERVICE, message_class

IRIS_ROW = [6.8, 2.8, 4.8, 1.4]
IRIS_LABEL = 1
_IMAGE = np.random.default_rng(7).random((1, 3, 224, 224), dtype=np.float32)
"""602 kB: what an image classifier gets."""
_IMAGE_MEAN = _IMAGE.mean(axis=(2, 3))
_Request = message_class("inference.ModelInferRequest")
_Response = message_class("inference.ModelInferResponse")
_GRPC_PATH = f"/{INFERENCE_SERVICE}/ModelInfer"
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request. `body` is what HTTP carries: for gRPC a message behind its five bytes of prefix."""

    name: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    right: Callable[[bytes], bool]
    """Whether the body of an answer, or the message of one of gRPC, holds what the model says."""

    @property
    def is_grpc(self) -> bool:
        return self.path == _GRPC_PATH

    def refusal(self, port: int) -> str:
        """Asks once; "" where the answer is right, else what came instead."""
        try:
            status, answer = self._ask_grpc(port) if self.is_grpc else self._ask_http(port)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        if status != http.client.OK:
            return f"{status}: {answer[:80].decode(errors='replace')}"
        return "" if self.right(answer) else f"a wrong answer: {answer[:80].decode(errors='replace')}"

    def _ask_http(self, port: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        connection.request("POST", self.path, self.body, dict(self.headers))
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, answer

    def _ask_grpc(self, port: int) -> tuple[int, bytes]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer: bytes = channel.unary_unary(_GRPC_PATH)(self.body[5:], timeout=_TIMEOUT_S)
        return http.client.OK, answer


def v1(model: str) -> Case:
    return Case(
        name="V1",
        path=f"/v1/models/{model}:predict",
        headers={"Content-Type": "application/json"},
        body=json.dumps({"instances": [IRIS_ROW]}).encode(),
        right=lambda answer: json.loads(answer)["predictions"] == [IRIS_LABEL],
    )


def v2_json(model: str) -> Case:
    tensor = {"name": "input-0", "shape": [1, len(IRIS_ROW)], "datatype": "FP32", "data": IRIS_ROW}
    return Case(
        name="V2 JSON",
        path=f"/v2/models/{model}/infer",
        headers={"Content-Type": "application/json"},
        body=json.dumps({"id": "1", "inputs": [tensor]}).encode(),
        right=lambda answer: json.loads(answer)["outputs"][0]["data"] == [IRIS_LABEL],
    )


def v2_binary_image() -> Case:
    raw = _IMAGE.tobytes()
    tensor = {
        "name": "input-0",
        "shape": _IMAGE.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = orjson.dumps({"id": "1", "inputs": [tensor]})
    return Case(
        name="V2 binary, image of 602 kB",
        path="/v2/models/image/infer",
        headers={"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))},
        body=head + raw,
        right=lambda answer: _is_mean(json.loads(answer)["outputs"][0]["data"]),
    )


def grpc_iris(model: str) -> Case:
    return _grpc_case("gRPC", model, np.array([IRIS_ROW], dtype=np.float32), _is_label)


def grpc_image() -> Case:
    return _grpc_case("gRPC, image of 602 kB", "image", _IMAGE, _is_mean)


def all_cases() -> list[tuple[Case, Case | None]]:
    """Each with the same question to the model that our runtime has converted, where it has one."""
    iris = [(ask("iris"), ask("iris-onnx")) for ask in (v1, v2_json, grpc_iris)]
    return [*iris[:2], (v2_binary_image(), None), iris[2], (grpc_image(), None)]


def _grpc_case(name: str, model: str, array: np.ndarray[Any, Any], right: Callable[[Any], bool]) -> Case:
    message = _Request(model_name=model, id="1", raw_input_contents=[array.tobytes()])
    message.inputs.add(name="input-0", datatype="FP32", shape=array.shape)
    serialized = message.SerializeToString()
    return Case(
        name=name,
        path=_GRPC_PATH,
        headers={"Content-Type": "application/grpc", "TE": "trailers"},
        body=b"\0" + len(serialized).to_bytes(4, "big") + serialized,
        right=lambda answer: right(_output(answer)),
    )


def _output(answer: bytes) -> Any:
    """The values of the only output, raw or typed, whichever the server prefers."""
    message = _Response.FromString(answer)
    datatype = {"INT64": "<i8", "INT32": "<i4", "FP32": "<f4", "FP64": "<f8"}[message.outputs[0].datatype]
    if message.raw_output_contents:
        return np.frombuffer(message.raw_output_contents[0], dtype=datatype)
    contents = message.outputs[0].contents
    return [value for _, values in contents.ListFields() for value in values]


def _is_label(found: Any) -> bool:
    return list(found) == [IRIS_LABEL]


def _is_mean(found: Any) -> bool:
    return bool(np.allclose(np.ravel(found), _IMAGE_MEAN.ravel(), atol=1e-4))
