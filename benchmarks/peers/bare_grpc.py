"""The floor of gRPC in Python: grpc.aio and protobuf around the model's call, without checks, errors or metrics."""

from __future__ import annotations

import asyncio
from typing import Any

import arguments
import grpc
import numpy as np

from ladle.protocol.grpc.schema import INFERENCE_SERVICE, message_class

_Request = message_class("inference.ModelInferRequest")
_Response = message_class("inference.ModelInferResponse")


async def main() -> None:
    given = arguments.parse()
    predict = arguments.iris(given.models).predict

    async def infer(message: Any, _: Any) -> Any:
        tensor = message.inputs[0]
        array = np.frombuffer(message.raw_input_contents[0], dtype=np.float32).reshape(tensor.shape)
        if message.model_name == "image":
            return _answer("image", array.mean(axis=(2, 3)), "FP32")
        return _answer("iris", predict(array), "INT64")

    method = grpc.unary_unary_rpc_method_handler(
        infer, request_deserializer=_Request.FromString, response_serializer=_Response.SerializeToString
    )
    limits = [("grpc.max_receive_message_length", 8 * 1024 * 1024)]
    server = grpc.aio.server(options=limits)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(INFERENCE_SERVICE, {"ModelInfer": method})])
    server.add_insecure_port(f"127.0.0.1:{given.grpc_port}")
    await server.start()
    await server.wait_for_termination()


def _answer(model: str, found: Any, datatype: str) -> Any:
    message = _Response(model_name=model, id="1")
    message.outputs.add(name="output-0", datatype=datatype, shape=found.shape)
    message.raw_output_contents.append(found.tobytes())
    return message


asyncio.run(main())
