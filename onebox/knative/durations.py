"""Go's durations, as Knative's annotations and config maps spell them: `90s`, `1m30s`, `1500ms`."""

from __future__ import annotations

import re

NANOSECONDS_PER_SECOND = 1_000_000_000
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": NANOSECONDS_PER_SECOND,
    "m": 60 * NANOSECONDS_PER_SECOND,
    "h": 3600 * NANOSECONDS_PER_SECOND,
}
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"[+-]?(?:{_TERM.pattern})+")


def parse_duration_ns(text: str) -> int:
    """The nanoseconds that Go's time.ParseDuration reads from `text`; ValueError where it is no duration.

    >>> parse_duration_ns("1m30s") // NANOSECONDS_PER_SECOND
    90
    """
    if text in ("0", "+0", "-0"):
        return 0
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration such as 90s or 1m30s")
    total = sum(_term_ns(number, unit) for number, unit in _TERM.findall(text))
    return -total if text.startswith("-") else total


def parse_duration_s(text: str) -> float:
    """`parse_duration_ns` in seconds."""
    return parse_duration_ns(text) / NANOSECONDS_PER_SECOND


def _term_ns(number: str, unit: str) -> int:
    # In integers: 0.1 s is no float, and Go truncates what is below a nanosecond.
    whole, _, fraction = number.partition(".")
    scale = _UNIT_NS[unit]
    return int(whole or "0") * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
