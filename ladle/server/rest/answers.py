"""Responses in KServe's forms, errors among them (spec/kserve.md 5.4)."""

from __future__ import annotations

import traceback

from ladle.errors import (
    InferenceError,
    InvalidInput,
    MissingField,
    ModelNotFound,
    ModelNotReady,
    StatusError,
    Unsupported,
)
from ladle.log import get_logger
from ladle.protocol.json import encode
from ladle.server.http.messages import Response
from ladle.server.response_headers import model_headers

log = get_logger(__name__)


def json_answer(body: object, status: int = 200) -> Response:
    return Response(status, encode(body))


def not_found() -> Response:
    """What FastAPI, and so KServe, answers for a path that nothing serves."""
    return Response(404, b'{"detail":"Not Found"}')


def method_not_allowed(allowed: str) -> Response:
    return Response(405, b'{"detail":"Method Not Allowed"}', headers=((b"allow", allowed.encode()),))


def error_answer(error: Exception) -> Response:
    """The code and the body of an error; those that are the server's or the model's fault go to the log."""
    if isinstance(error, MissingField):
        return _missing_field(error)
    if isinstance(error, StatusError):
        return _chosen(error)
    status = _status_of(error)
    if status != 500:
        return json_answer({"error": str(error)}, status)
    log.error("request failed", error=repr(error), traceback="".join(traceback.format_exception(error)))
    text = str(error) if isinstance(error, InferenceError) else f"{type(error).__name__} : {error}"
    return json_answer({"error": text}, 500)


def _chosen(error: StatusError) -> Response:
    try:
        return Response(error.status, encode(error.body), headers=model_headers(error.headers))
    except (
        InferenceError,
        TypeError,
    ) as unfit:  # A header that is none, a body without JSON form: the model's failure.
        return error_answer(unfit)


def _status_of(error: Exception) -> int:
    if isinstance(error, InvalidInput):
        return 400
    if isinstance(error, ModelNotFound):
        return 404
    if isinstance(error, ModelNotReady):
        return 503
    if isinstance(error, Unsupported | NotImplementedError):
        return 501
    return 500


def _missing_field(error: MissingField) -> Response:
    """FastAPI's validation error, and `error` beside it for clients that look for that."""
    detail = {"type": "missing", "loc": ["body", *error.location], "msg": "Field required"}
    return json_answer({"error": str(error), "detail": [detail]}, 422)
