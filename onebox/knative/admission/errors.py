"""The kinds of mistake that Knative's admission knows, with its words: tools and people look for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controller.base.errors import FieldError


def invalid(path: str, value: object, why: str = "") -> FieldError:
    return FieldError(field=path, message=f"invalid value: {value}" + (f": {why}" if why else ""))


def missing(path: str) -> FieldError:
    return FieldError(field=path, message="missing field(s)", cause="FieldValueRequired")


def forbidden(path: str) -> FieldError:
    return FieldError(field=path, message="must not set the field(s)", cause="FieldValueForbidden")


def out_of_bounds(path: str, value: object, low: object, high: object) -> FieldError:
    return FieldError(field=path, message=f"expected {low} <= {value} <= {high}")


def bad_key(path: str, key: str, why: str = "") -> FieldError:
    return FieldError(field=path, message=f'invalid key name "{key}"' + (f": {why}" if why else ""))


def generic(path: str, message: str) -> FieldError:
    return FieldError(field=path, message=message)


def exactly_one(path: str, found: Iterable[str], known: Iterable[str]) -> Iterator[FieldError]:
    """Nothing where one of `known` was found; an error for each name involved otherwise."""
    names = tuple(found)
    if not names:
        for name in known:
            yield FieldError(
                field=f"{path}.{name}", message="expected exactly one, got neither", cause="FieldValueRequired"
            )
    elif len(names) > 1:
        for name in names:
            yield generic(f"{path}.{name}", "expected exactly one, got both")
