"""The messages of the protocol, its health check and its reflection, from one table of fields.

Classes are made from descriptors when this is imported. Generated code was rejected: it ties a release of protobuf to the one
that generated it, and it registers `inference.*` in the process's common pool, where the stubs of tritonclient or kserve in
the same process would collide with ours. This pool is our own.

Names and numbers are those of the Open Inference Protocol, with Triton's additions (statistics, configuration, index).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

INFERENCE = "inference"
INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"
REFLECTION_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

_Table = Mapping[str, str]
_NAME_VERSION = "name=1 string, version=2 string"
_PARAMETERS = "map InferParameter"
_DURATIONS = "success fail queue compute_input compute_infer compute_output cache_hit cache_miss"

_INFERENCE: _Table = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live=1 bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready=1 bool",
    "ModelReadyRequest": _NAME_VERSION,
    "ModelReadyResponse": "ready=1 bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name=1 string, version=2 string, extensions=3 string*",
    "ModelMetadataRequest": _NAME_VERSION,
    "ModelMetadataResponse.TensorMetadata": "name=1 string, datatype=2 string, shape=3 int64*",
    "ModelMetadataResponse": (
        "name=1 string, versions=2 string*, platform=3 string, inputs=4 ModelMetadataResponse.TensorMetadata*, "
        "outputs=5 ModelMetadataResponse.TensorMetadata*, properties=6 map string"
    ),
    "InferParameter": (
        "bool_param=1 bool|, int64_param=2 int64|, string_param=3 string|, double_param=4 double|, uint64_param=5 uint64|"
    ),
    "InferTensorContents": (
        "bool_contents=1 bool*, int_contents=2 int32*, int64_contents=3 int64*, uint_contents=4 uint32*, "
        "uint64_contents=5 uint64*, fp32_contents=6 float*, fp64_contents=7 double*, bytes_contents=8 bytes*"
    ),
    "ModelInferRequest.InferInputTensor": (
        f"name=1 string, datatype=2 string, shape=3 int64*, parameters=4 {_PARAMETERS}, contents=5 InferTensorContents"
    ),
    "ModelInferRequest.InferRequestedOutputTensor": f"name=1 string, parameters=2 {_PARAMETERS}",
    "ModelInferRequest": (
        f"model_name=1 string, model_version=2 string, id=3 string, parameters=4 {_PARAMETERS}, "
        "inputs=5 ModelInferRequest.InferInputTensor*, outputs=6 ModelInferRequest.InferRequestedOutputTensor*, "
        "raw_input_contents=7 bytes*"
    ),
    "ModelInferResponse.InferOutputTensor": (
        f"name=1 string, datatype=2 string, shape=3 int64*, parameters=4 {_PARAMETERS}, contents=5 InferTensorContents"
    ),
    "ModelInferResponse": (
        f"model_name=1 string, model_version=2 string, id=3 string, parameters=4 {_PARAMETERS}, "
        "outputs=5 ModelInferResponse.InferOutputTensor*, raw_output_contents=6 bytes*"
    ),
    "ModelInput": "name=1 string, data_type=2 enum DataType, dims=4 int64*",
    "ModelOutput": "name=1 string, data_type=2 enum DataType, dims=3 int64*",
    "ModelConfig": (
        "name=1 string, platform=2 string, max_batch_size=4 int32, input=5 ModelInput*, output=6 ModelOutput*, "
        "backend=17 string"
    ),
    "ModelConfigRequest": _NAME_VERSION,
    "ModelConfigResponse": "config=1 ModelConfig",
    "StatisticDuration": "count=1 uint64, ns=2 uint64",
    "InferStatistics": ", ".join(f"{name}={n} StatisticDuration" for n, name in enumerate(_DURATIONS.split(), 1)),
    "ModelStatistics": (
        "name=1 string, version=2 string, last_inference=3 uint64, inference_count=4 uint64, execution_count=5 uint64, "
        "inference_stats=6 InferStatistics"
    ),
    "ModelStatisticsRequest": _NAME_VERSION,
    "ModelStatisticsResponse": "model_stats=1 ModelStatistics*",
    "RepositoryIndexRequest": "repository_name=1 string, ready=2 bool",
    "RepositoryIndexResponse.ModelIndex": "name=1 string, version=2 string, state=3 string, reason=4 string",
    "RepositoryIndexResponse": "models=1 RepositoryIndexResponse.ModelIndex*",
    # KServe sends the model's name as field 1, where Triton has the repository's; only the model's matters here.
    "ModelRepositoryParameter": "bool_param=1 bool|, int64_param=2 int64|, string_param=3 string|, bytes_param=4 bytes|",
    "RepositoryModelLoadRequest": "repository_name=1 string, model_name=2 string, parameters=3 map ModelRepositoryParameter",
    "RepositoryModelLoadResponse": "model_name=1 string, isLoaded=2 bool",
    "RepositoryModelUnloadRequest": "repository_name=1 string, model_name=2 string",
    "RepositoryModelUnloadResponse": "model_name=1 string, isUnloaded=2 bool",
}
"""Fields as `name=number type`; a star repeats, a bar is a member of the message's only oneof, `map T` maps strings."""

_DATA_TYPES = (
    *(
        "TYPE_INVALID",
        "TYPE_BOOL",
        "TYPE_UINT8",
        "TYPE_UINT16",
        "TYPE_UINT32",
        "TYPE_UINT64",
        "TYPE_INT8",
        "TYPE_INT16",
    ),
    *("TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16"),
)
_SERVING_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")

METHODS = (
    *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig"),
    *("ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
)
"""Of the inference service; each takes <name>Request and returns <name>Response."""

_HEALTH: _Table = {
    "HealthCheckRequest": "service=1 string",
    "HealthCheckResponse": "status=1 enum ServingStatus",
}
_REFLECTION: _Table = {
    "ServerReflectionRequest": (
        "host=1 string, file_by_filename=3 string|, file_containing_symbol=4 string|, list_services=7 string|"
    ),
    "ServiceResponse": "name=1 string",
    "ListServiceResponse": "service=1 ServiceResponse*",
    "FileDescriptorResponse": "file_descriptor_proto=1 bytes*",
    "ErrorResponse": "error_code=1 int32, error_message=2 string",
    "ServerReflectionResponse": (
        "valid_host=1 string, original_request=2 ServerReflectionRequest, "
        "file_descriptor_response=4 FileDescriptorResponse|, list_services_response=6 ListServiceResponse|, "
        "error_response=7 ErrorResponse|"
    ),
}


def _file(name: str, package: str, messages: _Table, enums: Mapping[str, tuple[str, ...]]) -> FileDescriptorProto:
    file = FileDescriptorProto(name=name, package=package, syntax="proto3")
    for enum, values in enums.items():
        described = file.enum_type.add(name=enum)
        for number, value in enumerate(values):
            described.value.add(name=value, number=number)
    for message, fields in messages.items():
        outer, _, inner = message.partition(".")
        target = next((known for known in file.message_type if known.name == outer), None)
        if target is None:
            target = file.message_type.add(name=outer)
        if inner:
            target = target.nested_type.add(name=inner)
        for field in filter(None, fields.split(", ")):
            _add_field(target, field, scope=f".{package}", path=message)
    return file


def _add_field(message: DescriptorProto, text: str, *, scope: str, path: str) -> None:
    """Adds what one entry of the table says, `name=number type`."""
    name, _, rest = text.partition("=")
    number, _, kind = rest.partition(" ")
    field = message.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind.endswith("*") or kind.startswith("map "):
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if kind.endswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0
    if kind.startswith("map "):
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key=1 string", scope=scope, path=path)
        _add_field(entry, f"value=2 {kind.removeprefix('map ')}", scope=scope, path=path)
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f"{scope}.{path}.{entry.name}"
    else:
        _set_type(field, kind.rstrip("*|"), scope)


def _set_type(field: FieldDescriptorProto, kind: str, scope: str) -> None:
    if kind.startswith("enum "):
        field.type, field.type_name = FieldDescriptorProto.TYPE_ENUM, f"{scope}.{kind.removeprefix('enum ')}"
    elif kind[0].isupper():
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f"{scope}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def _files() -> list[FileDescriptorProto]:
    inference = _file("open_inference.proto", INFERENCE, _INFERENCE, {"DataType": _DATA_TYPES})
    service = inference.service.add(name=INFERENCE_SERVICE.rpartition(".")[2])
    for method in METHODS:
        service.method.add(
            name=method, input_type=f".{INFERENCE}.{method}Request", output_type=f".{INFERENCE}.{method}Response"
        )
    health = _file("health.proto", "grpc.health.v1", _HEALTH, {"ServingStatus": _SERVING_STATUSES})
    for method in ("Check", "Watch"):
        found = (health.service[0] if health.service else health.service.add(name="Health")).method.add(name=method)
        found.input_type, found.output_type = (
            ".grpc.health.v1.HealthCheckRequest",
            ".grpc.health.v1.HealthCheckResponse",
        )
        found.server_streaming = method == "Watch"
    # Reflection does not list itself: its clients know it, and two versions share one set of messages here.
    reflection = _file("reflection.proto", "grpc.reflection.v1", _REFLECTION, {})
    return [inference, health, reflection]


FILES = _files()
"""Descriptors of everything that is served, as reflection hands them out."""
_pool = DescriptorPool()
for _described in FILES:
    _pool.AddSerializedFile(_described.SerializeToString())


def message_class(full_name: str) -> Any:
    """The class of a message, such as "inference.ModelInferRequest"."""
    return GetMessageClass(_pool.FindMessageTypeByName(full_name))
