"""The OpenAPI document of a model server: every path of V1 and V2, their bodies and their errors (pure).

OpenAPI 3.0, which the page that ships with swagger-ui-bundle can show. Written by hand, since the paths are not FastAPI's;
a test sends requests made from it to a server, and holds every answer against it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from ladle.server.docs.schemas import JSON, SCHEMAS, Schema, named

Operation: TypeAlias = dict[str, Any]
_OCTETS = "application/octet-stream"
_EVENT = "application/cloudevents+json"
_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "Name of the model.",
    "schema": {"type": "string"},
}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
_JSON_LENGTH = {
    "description": "Where the JSON ends and the tensors begin, in a binary body: its length in bytes.",
    "schema": {"type": "integer", "minimum": 0},
}
_BINARY = {
    "description": "The JSON, then the raw tensors in its order: little-endian; BYTES elements each with their length "
    "before them as 4 bytes.",
    "schema": {"type": "string", "format": "binary"},
}
_ERRORS = {
    "400": "The body or a header does not fit the protocol or the model.",
    "404": "There is no model of that name.",
    "413": "The body is too large.",
    "422": "A field is missing.",
    "500": "The model failed.",
    "501": "The model, or this server, does not do that.",
    "503": "The model is not ready; as text: too many requests wait.",
    "504": "It took longer than the revision's timeout.",
}


def build_document(version: str) -> dict[str, Any]:
    """The document of a server of this version."""
    paths: dict[str, dict[str, Operation]] = {
        "/": {"get": _read("Whether the process answers", "Alive")},
        "/metrics": {"get": _metrics()},
        **_v1_paths(),
        **_v2_paths(),
        **_repository_paths(),
    }
    for path, operations in paths.items():
        if "{model}" in path:
            operations["parameters"] = [_MODEL, _VERSION] if "{version}" in path else [_MODEL]  # type: ignore[assignment]
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Ladle model server",
            "version": version,
            "description": "KServe's V1 protocol and the Open Inference Protocol (V2). The same models are served over "
            "gRPC, which this document does not describe; its reflection service does.",
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _v1_paths() -> dict[str, dict[str, Operation]]:
    return {
        "/v1/models": {"get": _read("Names of the models", "Models", tag="V1")},
        "/v1/models/{model}": {"get": _read("Whether the model is ready", "ModelReady", 404, 503, tag="V1")},
        **{
            f"/v1/models/{{model}}:{verb}": {"post": _v1_post(summary)}
            for verb, summary in (("predict", "Predictions for rows"), ("explain", "Explanations for rows"))
        },
    }


def _v1_post(summary: str) -> Operation:
    operation = _post(summary, "V1Request", "V1Response", *(400, 404, 413, 422, 500, 501, 503, 504), tag="V1")
    operation["description"] = "Also takes and answers CloudEvents, binary (ce- headers) and structured."
    # A model may answer with text, bytes, or piece by piece.
    for content_type in ("text/plain", _OCTETS, "text/event-stream"):
        operation["responses"]["200"]["content"][content_type] = {"schema": {"type": "string"}}
    operation["requestBody"]["content"][_EVENT] = {"schema": named("CloudEvent")}
    operation["responses"]["200"]["content"][_EVENT] = {"schema": named("CloudEvent")}
    return operation


def _v2_paths() -> dict[str, dict[str, Operation]]:
    versioned = {"404": _error("404"), "501": _error("501")}
    return {
        "/v2": {"get": _read("The server and its extensions", "ServerMetadata", tag="V2")},
        "/v2/health/live": {"get": _read("Whether the process answers", "Live", tag="V2")},
        "/v2/health/ready": {"get": _health_ready()},
        "/v2/models": {"get": _read("Names of the models", "Models", tag="V2")},
        "/v2/models/stats": {"get": _read("Statistics of all models", "ModelStatistics", tag="V2")},
        "/v2/models/{model}": {"get": _read("What the model takes and gives", "ModelMetadata", 404, tag="V2")},
        "/v2/models/{model}/ready": {"get": _read("Whether the model is ready", "ModelReady", 404, 503, tag="V2")},
        "/v2/models/{model}/config": {"get": _read("The model's configuration", "ModelConfig", 404, tag="V2")},
        "/v2/models/{model}/stats": {"get": _read("The model's statistics", "ModelStatistics", 404, tag="V2")},
        "/v2/models/{model}/infer": {"post": _infer()},
        "/v2/models/{model}/versions/{version}": {
            "get": {"summary": "Models have no versions", "tags": ["V2"], "responses": versioned}
        },
    }


def _repository_paths() -> dict[str, dict[str, Operation]]:
    load = _post("Load a model, again if it is loaded", None, "Loaded", 404, 503, tag="Repository")
    unload = _post("Let a model go", None, "Unloaded", 404, 500, tag="Repository")
    index = _post("Every model with its state", "IndexRequest", "Index", 400, tag="Repository")
    index["requestBody"]["required"] = False
    return {
        "/v2/repository/index": {"post": index},
        "/v2/repository/models/{model}/load": {"post": load},
        "/v2/repository/models/{model}/unload": {"post": unload},
    }


def _read(summary: str, answer: str, *errors: int, tag: str = "Server") -> Operation:
    return {"summary": summary, "tags": [tag], "responses": {"200": _json("OK", named(answer)), **_errors(errors)}}


def _post(summary: str, body: str | None, answer: str, *errors: int, tag: str) -> Operation:
    operation = _read(summary, answer, *errors, tag=tag)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": named(body)}}}
    return operation


def _infer() -> Operation:
    operation = _post("Inference", "V2Request", "V2Response", *(400, 404, 413, 422, 500, 501, 503, 504), tag="V2")
    operation["description"] = (
        "Plain JSON, or the binary tensor extension: an input with parameters.binary_data_size has its bytes behind the "
        "JSON instead of `data`; an output comes that way if the request's parameters.binary_data_output or the requested "
        "output's parameters.binary_data is true."
    )
    header = {"name": "inference-header-content-length", "in": "header", "required": False, **_JSON_LENGTH}
    operation["parameters"] = [header]
    operation["requestBody"]["content"][_OCTETS] = _BINARY
    answer = operation["responses"]["200"]
    answer["content"][_OCTETS] = _BINARY
    answer["headers"] = {"inference-header-content-length": _JSON_LENGTH}
    return operation


def _health_ready() -> Operation:
    operation = _read("Whether every model is loaded", "Ready", tag="V2")
    operation["responses"]["503"] = _json("A model is not ready.", named("Ready"))
    return operation


def _metrics() -> Operation:
    text = {"schema": {"type": "string"}}
    content = {"text/plain": text, "application/openmetrics-text": text}
    return {
        "summary": "Prometheus metrics",
        "tags": ["Server"],
        "responses": {"200": {"description": "Text, or OpenMetrics as Accept wishes.", "content": content}},
    }


def _json(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _errors(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): _error(str(status)) for status in statuses}


def _error(status: str) -> dict[str, Any]:
    if status == "422":
        return _json(_ERRORS[status], named("MissingField"))
    answer = _json(_ERRORS[status], named("Error"))
    if status in ("400", "413", "503", "504"):  # What the HTTP server and the queue-proxy refuse, they refuse in text.
        answer["content"]["text/plain"] = {"schema": {"type": "string"}}
    return answer
