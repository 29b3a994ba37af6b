"""Structured logs: a constant message and key-values, one line per decision that changed something.

`log = get_logger(__name__)`, then `log.info("scaled", revision=name, from_replicas=1, to_replicas=4)`. On a terminal the
lines are for people; elsewhere they are JSON, one object a line.
"""

from __future__ import annotations

import logging
import sys

# structlog imports rich for its tracebacks wherever rich is installed: 8 MB and 0.14 s in each process (measured 2026-11),
# for a renderer that no log file needs. A name that is None in sys.modules cannot be imported; it is taken back at once.
_HIDDEN = "rich" not in sys.modules
if _HIDDEN:
    sys.modules["rich"] = None  # type: ignore[assignment]  # That is what the import system looks for.
import structlog  # noqa: E402
from structlog.typing import FilteringBoundLogger, Processor  # noqa: E402

if _HIDDEN:
    del sys.modules["rich"]


def configure_logging(level: str = "info", *, component: str = "") -> None:
    """Sets up logging of this process to stderr; `level` is debug, info, warning or error."""
    renderer: Processor
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(component=component)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `source=name` (`logger` is taken by structlog itself)."""
    logger: FilteringBoundLogger = structlog.get_logger(source=name)
    return logger
