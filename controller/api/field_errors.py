"""Kubernetes' words for what is wrong with a field, as kubectl users know them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydantic import ValidationError

from controller.base.errors import FieldError

_SHOWN_MAX: Final = 200
"""Characters of a value in a message. A guess: a name or a number fits, a whole document does not."""


def invalid(field: str, value: object, rule: str) -> FieldError:
    """A value outside of what the field allows: `rule` is a phrase such as `must be in [0, 100]`."""
    return FieldError(field=field, message=f"Invalid value: {_shown(value)}: {rule}")


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def required(field: str, why: str = "") -> FieldError:
    """A field that must be set."""
    return FieldError(field=field, message="Required value" + (f": {why}" if why else ""), cause="FieldValueRequired")


def forbidden(field: str, why: str) -> FieldError:
    """A field that must not be set here."""
    return FieldError(field=field, message=f"Forbidden: {why}", cause="FieldValueForbidden")


def not_supported(field: str, value: object, allowed: Iterable[str]) -> FieldError:
    """A word that is none of those that the field knows."""
    words = ", ".join(f'"{word}"' for word in allowed)
    return FieldError(
        field=field, message=f'Unsupported value: "{value}": supported values: {words}', cause="FieldValueNotSupported"
    )


def duplicate(field: str, value: object) -> FieldError:
    """A value that may stand there once."""
    return FieldError(field=field, message=f'Duplicate value: "{value}"', cause="FieldValueDuplicate")


def type_errors(error: ValidationError) -> Iterator[FieldError]:
    """What a schema would have said: fields whose JSON type is wrong."""
    for item in error.errors(include_url=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        missing = item["type"] == "missing"
        yield FieldError(
            field=path,
            message="Required value" if missing else f"Invalid value: {_shown(item['input'])}: {item['msg'].lower()}",
            cause="FieldValueRequired" if missing else "FieldValueTypeInvalid",
        )
