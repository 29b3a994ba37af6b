"""A violated JSON schema keyword in Kubernetes' words: field path, message, cause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jsonschema_rs
import orjson

from controller.base.errors import FieldError

_STRING_RULES = ("maxLength", "minLength", "pattern")
"""Kubernetes stops at the first of these that a string breaks, in this order."""


def field_path(steps: Sequence[str | int]) -> str:
    """`("spec", "ports", 2, "name")` as `spec.ports[2].name`.

    >>> field_path(("spec", "ports", 2, "name"))
    'spec.ports[2].name'
    """
    out = ""
    for step in steps:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else step
    return out


def field_errors(violations: Iterable[jsonschema_rs.ValidationError]) -> tuple[FieldError, ...]:
    """One error per wrong field and kind of mistake, in the order in which the validator met them."""
    string_errors: dict[str, int] = {}
    errors: list[tuple[str, FieldError]] = []
    for violation in violations:
        name, field = violation.kind.name, field_path(violation.instance_path)
        error = (name, _describe(name, field, violation))
        if name in _STRING_RULES:
            earlier = string_errors.get(field)
            if earlier is not None:
                if _STRING_RULES.index(name) < _STRING_RULES.index(errors[earlier][0]):
                    errors[earlier] = error
                continue
            string_errors[field] = len(errors)
        errors.append(error)
    return tuple(error for _, error in errors)


def _describe(name: str, field: str, violation: jsonschema_rs.ValidationError) -> FieldError:
    value: Any = violation.instance
    limit: Any = violation.kind.value
    match name:
        case "required":
            return FieldError(
                field=f"{field}.{limit}" if field else limit, message="Required value", cause="FieldValueRequired"
            )
        case "type":
            return _wrong_type(field, value, [kind for kind in limit if kind != "null"])
        case "enum":
            return _unsupported(field, value, limit)
        case "maxLength":
            return FieldError(
                field=field, message=f"Too long: may not be more than {limit} bytes", cause="FieldValueTooLong"
            )
        case "maxItems":
            return FieldError(
                field=field,
                message=f"Too many: {len(value)}: must have at most {limit} items",
                cause="FieldValueTooMany",
            )
        case "format":
            message = f"Invalid value: {_json(value)}: {field} in body must be of type {limit}: {_json(value)}"
            return FieldError(field=field, message=message, cause="FieldValueTypeInvalid")
        case _:
            shown = len(value) if name in ("minItems", "minProperties", "maxProperties") else value
            text = f"{field} in body {_broken_rule(name, limit)}".lstrip()
            return FieldError(field=field or "<nil>", message=f"Invalid value: {_json(shown)}: {text}")


def _wrong_type(field: str, value: Any, allowed: Sequence[str]) -> FieldError:
    found = f'"{json_type(value)}"'
    message = f"Invalid value: {found}: {field} in body must be of type {','.join(allowed)}: {found}"
    return FieldError(field=field or "<nil>", message=message, cause="FieldValueTypeInvalid")


def _unsupported(field: str, value: Any, allowed: Sequence[Any]) -> FieldError:
    supported = ", ".join(_json(option) for option in allowed)
    message = f"Unsupported value: {_json(value)}: supported values: {supported}"
    return FieldError(field=field, message=message, cause="FieldValueNotSupported")


def _broken_rule(name: str, limit: Any) -> str:
    match name:
        case "minimum":
            return f"should be greater than or equal to {limit}"
        case "exclusiveMinimum":
            return f"should be greater than {limit}"
        case "maximum":
            return f"should be less than or equal to {limit}"
        case "exclusiveMaximum":
            return f"should be less than {limit}"
        case "multipleOf":
            return f"should be a multiple of {limit}"
        case "minLength":
            return f"should be at least {limit} chars long"
        case "pattern":
            return f"should match '{limit}'"
        case "minItems":
            return f"should have at least {limit} items"
        case "uniqueItems":
            return "shouldn't contain duplicates"
        case "minProperties":
            return f"should have at least {limit} properties"
        case "maxProperties":
            return f"should have at most {limit} properties"
        case "oneOf":
            return "must validate one and only one schema (oneOf)"
        case "anyOf":
            return "must validate at least one schema (anyOf)"
        case "not":
            return "must not validate the schema (not)"
        case _:
            return f"does not satisfy {name}"


def json_type(value: object) -> str:
    """Kubernetes' word for the type of a parsed JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
