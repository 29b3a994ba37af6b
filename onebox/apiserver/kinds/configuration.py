"""ConfigMaps and Secrets."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.kinds.strategy import Strategy

_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_KEY_LENGTH_MAX = 253
_KEY_MESSAGE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_FROZEN = "Forbidden: field is immutable when `immutable` is set"


def _validate_keys(value: JsonView, part: str) -> Iterator[FieldError]:
    for key in value.get(part) or {}:
        if not _KEY.fullmatch(key):
            yield FieldError(field=f"{part}[{key}]", message=f'Invalid value: "{key}": {_KEY_MESSAGE}')
        elif len(key) > _KEY_LENGTH_MAX:
            message = f'Invalid value: "{key}": must be no more than {_KEY_LENGTH_MAX} characters'
            yield FieldError(field=f"{part}[{key}]", message=message)


def _validate_frozen(new: JsonView, old: JsonView | None, parts: tuple[str, ...]) -> Iterator[FieldError]:
    if old is None or not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield FieldError(field="immutable", message=_FROZEN, cause="FieldValueForbidden")
    for part in parts:
        if (new.get(part) or {}) != (old.get(part) or {}):
            yield FieldError(field=part, message=_FROZEN, cause="FieldValueForbidden")


def _validate_config_map(config: JsonView, old: JsonView | None) -> Iterator[FieldError]:
    yield from _validate_keys(config, "data")
    yield from _validate_keys(config, "binaryData")
    yield from _validate_frozen(config, old, ("data", "binaryData"))


def _complete_secret(secret: JsonObject) -> None:
    plain: Any = secret.pop("stringData", None)
    if isinstance(plain, dict) and plain:
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}


def _validate_secret(secret: JsonView, old: JsonView | None) -> Iterator[FieldError]:
    yield from _validate_keys(secret, "data")
    if old is not None and old.get("type") != secret.get("type"):
        yield FieldError(field="type", message=f'Invalid value: "{secret.get("type")}": field is immutable')
    yield from _validate_frozen(secret, old, ("data",))


CONFIG_MAP = Strategy(validate=_validate_config_map)
SECRET = Strategy(
    complete=_complete_secret,
    validate=_validate_secret,
    fields=lambda secret: {"type": secret.get("type", "")},
    selectable=("type",),
)
