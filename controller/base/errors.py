"""The three families of errors, and nothing about HTTP: the edges map these to codes.

Exception
├── UserError            somebody's input is wrong: a condition or a 4xx, never retried
│   └── Invalid          an object was refused, with every field that is wrong
├── TransientError       the world was not ready: retried with back-off
└── anything else        a bug: loud, with its traceback
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class UserError(Exception):
    """Input that cannot work. `reason` is a CamelCase word for a condition; the message says what to do next.

    `subject` names the object, as KIND/NAME, for whoever reports on several; "" where the reader knows it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.subject = ""


class TransientError(Exception):
    """Something outside refused or was late; trying again later may succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One wrong field of an offered object.

    `cause` is Kubernetes' word for it: FieldValueInvalid, FieldValueRequired, FieldValueNotSupported, FieldValueForbidden,
    FieldValueDuplicate, FieldValueTypeInvalid, FieldValueTooLong.
    """

    field: str
    message: str
    cause: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class Invalid(UserError):
    """An object that admission refuses, with all that is wrong with it at once."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("Invalid", "; ".join(str(error) for error in self.errors))
