"""Placeholders in a runtime's strings, such as `{{.Name}}`: the part of Go's templates that KServe's runtimes use. (pure)"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from controller.api.meta import ObjectMeta
from controller.base.errors import UserError

_PLACEHOLDER: Final = re.compile(r"\{\{-?\s*\.([A-Za-z][A-Za-z0-9_]*)(?:\.([A-Za-z0-9_]+))?\s*-?\}\}")
_KNOWN: Final = "{{.Name}}, {{.Namespace}}, {{.Labels.key}}, {{.Annotations.key}}"


def render(value: Any, meta: ObjectMeta) -> Any:
    """`value`, JSON of any shape, with every placeholder replaced; a label that is not there becomes the empty string.

    Other text in double braces (a chat template, say) stays. UserError InvalidPredictorSpec where nothing fills a placeholder.
    """
    match value:
        case str():
            return _PLACEHOLDER.sub(lambda found: _value(found, meta), value)
        case Mapping():
            return {name: render(inner, meta) for name, inner in value.items()}
        case list():
            return [render(inner, meta) for inner in value]
    return value


def _value(found: re.Match[str], meta: ObjectMeta) -> str:
    match found.groups():
        case ("Name", None):
            return meta.name
        case ("Namespace", None):
            return meta.namespace
        case ("Labels", str(key)):
            return meta.labels.get(key, "")
        case ("Annotations", str(key)):
            return meta.annotations.get(key, "")
    raise UserError(
        "InvalidPredictorSpec", f"placeholder {found.group()} in the runtime: only {_KNOWN} can be filled in"
    )
