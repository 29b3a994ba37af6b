"""Log lines as the control plane writes them, from the standard library alone: one JSON object a line on stderr.

A pod imports nothing that it does not need to serve, so structlog stays out of it. `log = get_logger(__name__)`, then
`log.info("model loaded", model=name, seconds=0.2)`: a constant message, what varies as key-values.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from ladle.clock import SystemClock

_clock = SystemClock()


class Logger:
    """Writes lines that carry `logger=name`."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        # One write a line: lines of several threads and processes must not mix.
        sys.stderr.write(render_line(level, self._name, event, fields))


def render_line(level: str, name: str, event: str, fields: Mapping[str, object]) -> str:
    """The line that a logger writes at this moment, with its end."""
    moment = datetime.fromtimestamp(_clock.wall_s(), tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    line = {"event": event, "level": level, "timestamp": moment, "logger": name, **fields}
    return json.dumps(line, default=str) + "\n"


def get_logger(name: str) -> Logger:
    """A logger whose lines carry `logger=name`."""
    return Logger(name)
