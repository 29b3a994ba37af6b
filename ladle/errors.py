"""Everything that can go wrong between a request and its answer, and nothing about HTTP or gRPC: the edges map these.

Exception
├── UserError                somebody's input is wrong; never retried
│   ├── InvalidInput         a request does not fit the protocol or the model
│   │   └── MissingField     a field that must be there is not
│   ├── ModelNotFound        no model of that name
│   ├── Unsupported          the protocol knows it, this server does not do it
│   └── BadModel             the model's files cannot be served
├── TransientError           trying again later may succeed
│   ├── ModelNotReady        it is loading, or failed to load
│   └── StorageUnavailable   a download failed although its source may be right
├── InferenceError           the model itself failed
├── StatusError              the model's own code chose what to answer
└── anything else            a bug: loud, with its traceback
"""

from __future__ import annotations

from collections.abc import Mapping


class UserError(Exception):
    """Input that cannot work. `reason` is a CamelCase word; the message says what was expected."""

    reason = "Invalid"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(UserError):
    """A request that does not fit the protocol or the model."""

    reason = "InvalidInput"


class MissingField(InvalidInput):
    """A field of a request that is required; `location` is its path from the top of the body."""

    reason = "MissingField"

    def __init__(self, *location: str | int) -> None:
        super().__init__(f"{'.'.join(map(str, location))}: field required")
        self.location = location


class ModelNotFound(UserError):
    """No model of that name is registered."""

    reason = "ModelNotFound"

    def __init__(self, name: str) -> None:
        super().__init__(f"Model with name {name} does not exist.")
        self.name = name


class Unsupported(UserError):
    """Part of the protocol that this server, or this model, does not implement."""

    reason = "Unsupported"


class BadModel(UserError):
    """The files of a model cannot be served: none, too many, or of the wrong kind."""

    reason = "BadModel"


class TransientError(Exception):
    """Something was not ready or was late; trying again later may succeed."""


class ModelNotReady(TransientError):
    """The model is loading, was unloaded, or failed to load; `detail` says which."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"Model with name {name} is not ready.{' ' + detail if detail else ''}")
        self.name = name


class StorageUnavailable(TransientError):
    """A source of model files did not answer, or broke off, more often than it was retried."""


class StatusError(Exception):
    """An answer that a model's own code chose: a status as HTTP numbers them, any JSON as body, headers.

    For what is no fault of this server: a refusal of the model's, or the failure of another server that it asked.
    """

    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"status = {status}, must be in [400, 599]")
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class InferenceError(Exception):
    """The model itself failed on input that was fine."""
