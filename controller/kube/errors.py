"""What an API server's refusal means to the caller; the only place where status codes turn into families of errors.

ApiError
├── NotFound       404        the object, its kind or its namespace is not there            (transient)
├── Conflict       409        somebody wrote in between: read again, decide again           (transient)
│   └── AlreadyExists         create found an object of that name
├── Gone           410        the resourceVersion is too old: list again                    (transient)
├── Unavailable    401, 408, 429, 5xx, 0 for no answer at all                               (transient)
└── Rejected       other 4xx  the object or the request is wrong: retrying cannot help      (user error)
"""

from __future__ import annotations

import orjson

from controller.base.errors import FieldError, TransientError, UserError
from controller.base.json import JsonView

NO_ANSWER = 0
"""`status` where the connection failed or a deadline passed, so that no answer came."""
_MESSAGE_LENGTH_MAX = 500
"""Characters kept of an answer that is not a Status object (a proxy's page, say); a guess at what a log line bears."""


class ApiError(Exception):
    """An answer other than success. `status` is HTTP's code, `reason` and `causes` are those of Kubernetes' Status."""

    def __init__(self, status: int, reason: str, message: str, causes: tuple[FieldError, ...] = ()) -> None:
        Exception.__init__(self, message)  # Not super(): the families' constructors take other arguments.
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes


class NotFound(ApiError, TransientError):
    pass


class Conflict(ApiError, TransientError):
    pass


class AlreadyExists(Conflict):
    pass


class Gone(ApiError, TransientError):
    pass


class Unavailable(ApiError, TransientError):
    pass


class Rejected(ApiError, UserError):
    pass


def no_answer(message: str) -> Unavailable:
    """The error of a request that no answer came to."""
    return Unavailable(NO_ANSWER, "NoAnswer", message)


def error_of_answer(status: int, body: bytes) -> ApiError:
    """The error that an HTTP answer stands for; `body` is a Status object, or whatever a proxy sent."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        parsed = {"message": body.decode(errors="replace")[:_MESSAGE_LENGTH_MAX] or f"HTTP {status} without a body"}
    return error_of_status(parsed, status)


def error_of_status(status_object: JsonView, default_code: int = 500) -> ApiError:
    """The error that a Status object stands for, from an answer or from a watch."""
    code = status_object.get("code") or default_code
    reason = status_object.get("reason") or ""
    details = status_object.get("details") or {}
    causes = tuple(
        FieldError(field=cause.get("field", ""), message=cause.get("message", ""), cause=cause.get("reason", ""))
        for cause in details.get("causes") or ()
    )
    return _class_of(code, reason)(code, reason, status_object.get("message") or reason or f"HTTP {code}", causes)


def _class_of(code: int, reason: str) -> type[ApiError]:
    match code:
        case 404:
            return NotFound
        case 409:
            return AlreadyExists if reason == "AlreadyExists" else Conflict
        case 410:
            return Gone
        # A token that was just rotated is refused until it is read again; only a person can tell this from a wrong one.
        case 401 | 408 | 429:
            return Unavailable
        case _ if 400 <= code < 500:
            return Rejected
        case _:
            return Unavailable
