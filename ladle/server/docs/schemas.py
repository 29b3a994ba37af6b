"""The bodies of V1 and V2, as JSON Schema in OpenAPI's dialect (pure)."""

from __future__ import annotations

from typing import Any, TypeAlias

from ladle.protocol.datatypes import DATATYPES

Schema: TypeAlias = dict[str, Any]
JSON = "application/json"


def described(kind: str, description: str, **more: Any) -> Schema:
    """A schema of a simple type."""
    return {"type": kind, "description": description, **more}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None, **more: Any) -> Schema:
    """An object with these fields."""
    schema: Schema = {"type": "object", "properties": {**required, **(optional or {})}, **more}
    if required:
        schema["required"] = list(required)
    return schema


def listed(items: Schema, **more: Any) -> Schema:
    """An array."""
    return {"type": "array", "items": items, **more}


def named(name: str) -> Schema:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Schema = {"type": "string"}
_BOOL: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PARAMETERS: Schema = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]},
}
_NAME = described("string", "Name of the tensor.")
_DATATYPE: Schema = {"type": "string", "enum": sorted(DATATYPES)}
_SHAPE = listed({"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, maxItems=32)
_DATA = listed({}, description="The elements in row-major order, flat or nested. Not with binary_data_size.")
_DURATION = record({"count": _COUNT, "ns": _COUNT})
_STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")

SCHEMAS: dict[str, Schema] = {
    "Error": record({"error": described("string", "What is wrong, and what was expected.")}),
    "FrameworkError": record({"detail": described("string", "As FastAPI words it.")}),
    "MissingField": record(
        {
            "error": _TEXT,
            "detail": listed(record({"type": _TEXT, "loc": listed({}), "msg": _TEXT})),
        },
        description="A field that has to be there is not; in FastAPI's form, with `error` beside it.",
    ),
    "V1Request": {
        "type": "object",
        "description": "One of `inputs`, looked at first, and `instances`.",
        "properties": {
            "instances": listed({}, description="One entry a row: numbers, lists, strings or objects."),
            "inputs": {"description": "All rows at once."},
        },
        "example": {"instances": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]},
    },
    "V1Response": {"description": "What the model answers; mostly an object with `predictions`, one entry a row."},
    "CloudEvent": record(
        {"specversion": _TEXT, "id": _TEXT, "source": _TEXT, "type": _TEXT},
        {"time": _TEXT, "datacontenttype": _TEXT, "data": {"description": "A V1Request, or its answer."}},
        description="Structured, of version 1.0.",
    ),
    "V2Input": record(
        {"name": _NAME, "shape": _SHAPE, "datatype": _DATATYPE}, {"parameters": _PARAMETERS, "data": _DATA}
    ),
    "V2RequestedOutput": record({"name": _NAME}, {"parameters": _PARAMETERS}),
    "V2Request": record(
        {"inputs": listed(named("V2Input"))},
        {
            "id": described("string", "Comes back with the answer; a UUID where it is missing."),
            "parameters": _PARAMETERS,
            "outputs": listed(
                named("V2RequestedOutput"), description="Those that are wanted; all where it is missing."
            ),
        },
        example={"inputs": [{"name": "input-0", "shape": [1, 4], "datatype": "FP32", "data": [6.8, 2.8, 4.8, 1.4]}]},
    ),
    "V2Output": record(
        {"name": _NAME, "shape": _SHAPE, "datatype": _DATATYPE},
        {"parameters": _PARAMETERS, "data": listed({})},
    ),
    "V2Response": record(
        {"model_name": _TEXT, "id": _TEXT, "outputs": listed(named("V2Output"))},
        {"model_version": {"type": "string", "nullable": True}, "parameters": {**_PARAMETERS, "nullable": True}},
    ),
    "Models": record({"models": listed(_TEXT)}),
    "ModelReady": record({"name": _TEXT, "ready": _BOOL}),
    "Alive": record({"status": {"type": "string", "enum": ["alive"]}}),
    "Live": record({"live": _BOOL}),
    "Ready": record({"ready": _BOOL}),
    "ServerMetadata": record({"name": _TEXT, "version": _TEXT, "extensions": listed(_TEXT)}),
    "TensorMetadata": record(
        {"name": _TEXT, "datatype": _DATATYPE, "shape": listed({"type": "integer", "minimum": -1})},
        description="-1 is any length.",
    ),
    "ModelMetadata": record(
        {
            "name": _TEXT,
            "versions": listed(_TEXT),
            "platform": _TEXT,
            "inputs": listed(named("TensorMetadata")),
            "outputs": listed(named("TensorMetadata")),
        },
        {"properties": {"type": "object", "additionalProperties": _TEXT}},
    ),
    "ModelConfig": record(
        {"name": _TEXT, "platform": _TEXT, "max_batch_size": _COUNT, "input": listed({}), "output": listed({})},
        description="Triton's model configuration.",
    ),
    "ModelStatistics": record(
        {
            "model_stats": listed(
                record(
                    {
                        "name": _TEXT,
                        "version": _TEXT,
                        "last_inference": _COUNT,
                        "inference_count": _COUNT,
                        "execution_count": _COUNT,
                        "inference_stats": record(dict.fromkeys(_STAGES, _DURATION)),
                        "batch_stats": listed({}),
                    }
                )
            )
        },
        description="Triton's statistics extension, of the process that answers.",
    ),
    "IndexRequest": record({}, {"ready": described("boolean", "Only those that are ready.")}),
    "Index": listed(
        record(
            {
                "name": _TEXT,
                "version": _TEXT,
                "state": {"type": "string", "enum": ["LOADING", "READY", "UNAVAILABLE"]},
                "reason": _TEXT,
            }
        )
    ),
    "Loaded": record({"name": _TEXT, "load": _BOOL}),
    "Unloaded": record({"name": _TEXT, "unload": _BOOL}),
}
"""By the names that paths refer to."""
