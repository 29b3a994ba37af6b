"""Server reflection, with which tools like grpcurl call a server whose stubs they do not have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from ladle.protocol.grpc.schema import FILES, HEALTH_SERVICE, INFERENCE_SERVICE, REFLECTION_SERVICES, message_class

_Request = message_class("grpc.reflection.v1.ServerReflectionRequest")
_Response = message_class("grpc.reflection.v1.ServerReflectionResponse")
_LISTED = (INFERENCE_SERVICE, HEALTH_SERVICE, REFLECTION_SERVICES[0])


def reflection_handlers() -> list[grpc.GenericRpcHandler]:
    """One for each version of the service; their messages are the same."""
    method = grpc.stream_stream_rpc_method_handler(
        _answers, request_deserializer=_Request.FromString, response_serializer=_Response.SerializeToString
    )
    return [
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in REFLECTION_SERVICES
    ]


async def _answers(requests: AsyncIterator[Any], _: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    async for request in requests:
        yield answer(request)


def answer(request: Any) -> Any:
    """What one question of a reflection stream gets."""
    response = _Response(valid_host=request.host, original_request=request)
    match request.WhichOneof("choice"):
        case "list_services":
            for name in _LISTED:
                response.list_services_response.service.add(name=name)
        case "file_by_filename":
            _describe(response, next((file for file in FILES if file.name == request.file_by_filename), None))
        case "file_containing_symbol":
            _describe(response, _file_of(request.file_containing_symbol))
        case other:
            _refuse(response, grpc.StatusCode.UNIMPLEMENTED, f"{other or 'this question'} is not supported")
    return response


def _describe(response: Any, file: FileDescriptorProto | None) -> None:
    if file is None:
        _refuse(response, grpc.StatusCode.NOT_FOUND, "symbol or file not found")
    else:
        response.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())


def _file_of(symbol: str) -> FileDescriptorProto | None:
    """The file that defines a service, one of its methods, or a message."""
    for file in FILES:
        names = {f"{file.package}.{kind.name}" for kind in (*file.service, *file.message_type, *file.enum_type)}
        if any(symbol == name or symbol.startswith(f"{name}.") for name in names):
            return file
    return None


def _refuse(response: Any, code: grpc.StatusCode, text: str) -> None:
    response.error_response.error_code = code.value[0]
    response.error_response.error_message = text
