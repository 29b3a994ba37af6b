"""What code written for KServe raises, as this server knows it.

The codes are KServe's, but for a transformer's predictor: where that fails, KServe answers 500 whatever happened; here its
own status is passed on.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

from ladle import errors
from ladle.errors import StatusError

_PASSED_ON = "retry-after"
"""The one header of a predictor's refusal that is for the client."""
_CANNOT_BE_REACHED = 503
_TOOK_TOO_LONG = 504
_HTTP_OF_GRPC = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""As google.rpc.Code lists them; all others are 500."""


def translated(error: Exception) -> Exception:
    """The same error in this server's terms; itself where it has no counterpart, which is then answered with 500."""
    for translate in (_of_kserve, _of_starlette, _of_httpx, _of_grpc):
        found = translate(error)
        if found is not None:
            return found
    return error


def _of_kserve(error: Exception) -> Exception | None:
    kinds = import_module("kserve.errors")
    match error:
        case kinds.InvalidInput():
            return errors.InvalidInput(str(error))
        case kinds.InferenceError():
            return errors.InferenceError(str(error))
        case kinds.UnsupportedProtocol():
            return errors.Unsupported(str(error))
        case kinds.ModelNotFound():
            return StatusError(404, {"error": str(error)})
        case kinds.ModelNotReady() | kinds.ServerNotReady() | kinds.ServerNotLive():
            return StatusError(503, {"error": str(error)})
    return None


def _of_starlette(error: Exception) -> Exception | None:
    """HTTPException, FastAPI's too; one that is no error at all stays what it is, a bug of the model's."""
    kind = import_module("starlette.exceptions").HTTPException
    if isinstance(error, kind) and 400 <= error.status_code <= 599:
        return StatusError(error.status_code, {"detail": error.detail}, error.headers)
    return None


def _of_httpx(error: Exception) -> Exception | None:
    httpx = import_module("httpx")
    if isinstance(error, httpx.HTTPStatusError):
        return _of_answer(error.response)
    if isinstance(error, httpx.TimeoutException):
        return StatusError(_TOOK_TOO_LONG, {"error": f"the predictor took too long: {_described(error)}"})
    if isinstance(error, httpx.TransportError):
        return StatusError(_CANNOT_BE_REACHED, {"error": f"the predictor cannot be reached: {_described(error)}"})
    return None


def _of_answer(response: Any) -> Exception:
    try:
        body: object = json.loads(response.content)
    except ValueError:
        body = {"error": f"the predictor answered {response.status_code}: {response.text.strip()}"}
    if not 400 <= response.status_code <= 599:
        return errors.InferenceError(f"the predictor answered {response.status_code}, expected 200")
    headers = {_PASSED_ON: response.headers[_PASSED_ON]} if _PASSED_ON in response.headers else {}
    return StatusError(response.status_code, body, headers)


def _described(error: Exception) -> str:
    request = getattr(error, "_request", None)
    where = f"{request.url}: " if request is not None else ""
    return f"{where}{error or type(error).__name__}"


def _of_grpc(error: Exception) -> Exception | None:
    grpc = import_module("grpc")
    if not isinstance(error, grpc.RpcError) or not hasattr(error, "code"):
        return None
    code, details = error.code(), getattr(error, "details", str)()
    return StatusError(_HTTP_OF_GRPC.get(code.name, 500), {"error": f"the predictor answered {code.name}: {details}"})
