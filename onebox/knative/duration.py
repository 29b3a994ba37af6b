"""Durations as Go writes and reads them, since Knative's annotations and config maps carry them (`90s`, `1h30m`, `1.5s`)."""

from __future__ import annotations

import re
from fractions import Fraction

_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration_s(text: str) -> float:
    """Seconds of a Go duration; ValueError where `text` is none. A bare number other than 0 has no unit and is none."""
    unsigned = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if unsigned == "0":
        return 0.0
    position, total_ns = 0, Fraction()
    while position < len(unsigned):
        part = _PART.match(unsigned, position)
        if part is None:
            raise ValueError(f"not a duration: {text!r}")
        total_ns += Fraction(part[1]) * _UNIT_NS[part[2]]
        position = part.end()
    if position == 0:
        raise ValueError(f"not a duration: {text!r}")
    seconds = int(total_ns) / 10**9
    return -seconds if text.startswith("-") else seconds


def format_duration(seconds: float) -> str:
    """`seconds` as Go prints a duration: `1h0m0s`, `6s`, `1.5s`, `250ms`, `0s`."""
    sign, nanoseconds = ("-", -round(seconds * 10**9)) if seconds < 0 else ("", round(seconds * 10**9))
    if 0 < nanoseconds < 10**9:
        unit = next(unit for unit in ("ms", "µs", "ns") if nanoseconds >= _UNIT_NS[unit])
        return f"{sign}{_decimal(nanoseconds, _UNIT_NS[unit])}{unit}"
    minutes, rest_ns = divmod(nanoseconds, _UNIT_NS["m"])
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(rest_ns, 10**9)}s"


def _decimal(numerator: int, denominator: int) -> str:
    whole, rest = divmod(numerator, denominator)
    digits = str(rest).rjust(len(str(denominator)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
