"""The part of Go's text/template that Knative's name templates use: `{{.Name}}` and `{{index .Annotations "key"}}`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from controller.base.errors import UserError

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_FIELD = re.compile(r"\.(\w+)")
_MAP_FIELD = re.compile(r"\.(\w+)\.([\w-]+)")
_INDEX = re.compile(r'index\s+\.(\w+)\s+"([^"]*)"')

TemplateValues = Mapping[str, "str | Mapping[str, str]"]


def render_template(template: str, values: TemplateValues) -> str:
    """`template` with its actions replaced; UserError names an action that is not understood.

    >>> render_template("{{.Tag}}-{{.Name}}", {"Tag": "v1", "Name": "iris"})
    'v1-iris'
    """
    return _ACTION.sub(lambda match: _evaluate(match.group(1), values), template)


def _evaluate(action: str, values: TemplateValues) -> str:
    if (match := _FIELD.fullmatch(action)) and isinstance(value := values.get(match.group(1)), str):
        return value
    if (match := _INDEX.fullmatch(action) or _MAP_FIELD.fullmatch(action)) and isinstance(
        entries := values.get(match.group(1)), Mapping
    ):
        return entries.get(match.group(2), "")
    known = ", ".join(sorted(values))
    raise UserError("InvalidTemplate", f"the template action {{{{{action}}}}} is not understood; it can use {known}")
