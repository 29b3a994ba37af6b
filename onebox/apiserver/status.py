"""Refusals as Kubernetes' Status objects. What goes wrong inside is raised as `Refused`; the dispatcher answers with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from controller.base.errors import FieldError
from controller.base.json import JsonObject


class Refused(Exception):
    """A request that is answered with a failure."""

    def __init__(self, code: int, reason: str, message: str, details: JsonObject | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.continue_token = ""
        """A fresh token with which an expired list may go on."""

    def body(self) -> JsonObject:
        """The Status object."""
        metadata = {"continue": self.continue_token} if self.continue_token else {}
        status: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        return {**status, "code": self.code}


class PageNotFound(Exception):
    """A path that leads nowhere: answered as plain text, as kube-apiserver does."""


def success(name: str, group: str, plural: str, uid: str) -> JsonObject:
    """The Status of a finished deletion."""
    details = {"name": name, **({"group": group} if group else {}), "kind": plural, "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def qualified(name: str, group: str) -> str:
    """`deployments.apps`, or `pods` in the core group."""
    return f"{name}.{group}" if group else name


def _details(name: str, group: str, kind: str, **more: Any) -> JsonObject:
    out: JsonObject = {"name": name} if name else {}
    return out | ({"group": group} if group else {}) | {"kind": kind} | more


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def not_found(plural: str, group: str, name: str) -> Refused:
    return Refused(404, "NotFound", f'{qualified(plural, group)} "{name}" not found', _details(name, group, plural))


def already_exists(plural: str, group: str, name: str) -> Refused:
    message = f'{qualified(plural, group)} "{name}" already exists'
    return Refused(409, "AlreadyExists", message, _details(name, group, plural))


def conflict(kind: str, group: str, name: str, why: str) -> Refused:
    message = f'Operation cannot be fulfilled on {qualified(kind, group)} "{name}": {why}'
    return Refused(409, "Conflict", message, _details(name, group, kind))


def modified(plural: str, group: str, name: str) -> Refused:
    """Somebody else wrote first."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(plural, group, name, why)


def forbidden(plural: str, group: str, name: str, why: str, causes: Iterable[FieldError] = ()) -> Refused:
    listed = _causes(causes)
    message = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return Refused(403, "Forbidden", message, _details(name, group, plural, **({"causes": listed} if listed else {})))


def invalid(kind: str, group: str, name: str, errors: Iterable[FieldError]) -> Refused:
    """All that is wrong with an object, field by field."""
    listed = list(errors)
    shown = [str(error) for error in listed]
    what = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    message = f'{qualified(kind, group)} "{name}" is invalid: {what}'
    return Refused(422, "Invalid", message, _details(name, group, kind, causes=_causes(listed)))


def invalid_options(kind: str, error: FieldError) -> Refused:
    """A query parameter that is wrong; `kind` is CreateOptions, PatchOptions and so on."""
    return invalid(kind, "meta.k8s.io", "", [error])


def method_not_allowed() -> Refused:
    return Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def unsupported_media(accepted: Iterable[str]) -> Refused:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return Refused(415, "UnsupportedMediaType", message)


def expired(message: str) -> Refused:
    return Refused(410, "Expired", message)


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "Unauthorized")


def internal_error(message: str) -> Refused:
    details = {"causes": [{"message": message}]}
    return Refused(500, "InternalError", f"Internal error occurred: {message}", details)


def too_large(why: str) -> Refused:
    return Refused(413, "RequestEntityTooLarge", f"Request entity too large: {why}")


def busy(message: str) -> Refused:
    return Refused(429, "TooManyRequests", message, {"retryAfterSeconds": 1})


def _causes(errors: Iterable[FieldError]) -> list[JsonObject]:
    return [{"reason": error.cause, "message": error.message, "field": error.field} for error in errors]
