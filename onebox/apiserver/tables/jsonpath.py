"""The JSONPath of printer columns: fields, quoted fields, indices, `[*]`, filters by equality or existence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

_STEP = re.compile(
    r"""\.?(?P<name>[A-Za-z_$-](?:[\w$-]|\\\.)*)   # .name, with \. for a dot inside it
      | \.?\[['"](?P<quoted>[^'"]*)['"]\]             # ['name']
      | \[(?P<index>-?\d+)\]                          # [0]
      | \.?\[?(?P<all>\*)\]?                          # [*]
      | \[\?\(@\.?(?P<field>[^=!<>)]*?)\s*(?:(?P<operator>==|!=)\s*(?P<literal>"[^"]*"|'[^']*'|[^)\s]+)\s*)?\)\]
    """,
    re.VERBOSE,
)
_PATHS_MAX = 256
"""Paths kept parsed: there are about 60 in the kinds at hand."""

Step = Callable[[Any], Iterable[Any]]


def find(value: Any, path: str) -> list[Any]:
    """All values at a path, in order; none where it leads nowhere."""
    found = [value]
    for step in _parse(path):
        found = [inner for outer in found for inner in step(outer)]
    return found


@lru_cache(maxsize=_PATHS_MAX)
def _parse(path: str) -> tuple[Step, ...]:
    text, position, steps = path.strip().strip("{}").lstrip("$"), 0, []
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None or match.end() == position:
            return (lambda _: (),)
        steps.append(_step(match))
        position = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    name = match["name"] or match["quoted"]
    if name is not None:
        field = name.replace("\\.", ".")
        return lambda value: [value[field]] if isinstance(value, dict) and field in value else ()
    if match["index"] is not None:
        index = int(match["index"])
        return lambda value: [value[index]] if isinstance(value, list) and -len(value) <= index < len(value) else ()
    if match["all"] is not None:
        return _every
    return _filter(match["field"], match["operator"], match["literal"])


def _every(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _filter(field: str, operator: str | None, literal: str | None) -> Step:
    wanted = (literal or "").strip("\"'")

    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            found = find(item, f".{field}") if field else [item]
            equal = bool(found) and _text(found[0]) == wanted
            if bool(found) if operator is None else equal is (operator == "=="):
                yield item

    return step


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
