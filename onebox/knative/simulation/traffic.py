"""Traffic as a trace: rows of time and requests per second, and the arrivals that follow from it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from controller.base.errors import UserError

REQUESTS_MAX = 20_000_000
"""Arrivals of one simulation: each takes about 200 bytes and 5 µs, so that this many still fit a laptop."""
_COLUMNS = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A constant rate, `rate` requests/s over [start_s, end_s), seconds from the begin of the trace."""

    start_s: float
    end_s: float
    rate: float


@dataclass(frozen=True, slots=True)
class Traffic:
    segments: tuple[Segment, ...]

    @property
    def duration_s(self) -> float:
        return self.segments[-1].end_s

    @property
    def requests(self) -> float:
        """Expected number of requests."""
        return sum(segment.rate * (segment.end_s - segment.start_s) for segment in self.segments)


def parse_traffic(text: str) -> Traffic:
    """The traffic in a CSV of time and requests/s, with or without a header line.

    Time is in seconds, or a date and time as ISO 8601 has it; the first row is second 0. A row's rate holds until the next
    row; that of the last one holds as long as the one before it did. UserError names the line that cannot be.
    """
    rows = list(_rows(text))
    if len(rows) < 2:
        raise UserError(
            "InvalidTraffic", f"a trace has at least two rows of time and requests/s; this one has {len(rows)}"
        )
    begin_s = rows[0][0]
    times = [time_s - begin_s for time_s, _ in rows]
    times.append(times[-1] + times[-1] - times[-2])
    segments = tuple(Segment(times[i], times[i + 1], rate) for i, (_, rate) in enumerate(rows))
    traffic = Traffic(segments)
    if traffic.requests > REQUESTS_MAX:
        raise UserError(
            "InvalidTraffic",
            f"the trace has {traffic.requests:.0f} requests, more than {REQUESTS_MAX}: cut it, or scale rates and "
            "--service-time together",
        )
    return traffic


def arrivals_of(traffic: Traffic, rng: np.random.Generator, *, even: bool = False) -> NDArray[np.float64]:
    """When requests come, seconds from the begin, ascending, shape (requests,).

    Independent arrivals (a Poisson process) unless `even`, where they come at equal distances.
    """
    parts = []
    for segment in traffic.segments:
        length_s = segment.end_s - segment.start_s
        if even:
            count = math.floor(segment.rate * length_s)
            offsets = (np.arange(count) + 0.5) / segment.rate if count else np.empty(0)
        else:
            offsets = np.sort(rng.random(rng.poisson(segment.rate * length_s))) * length_s
        parts.append(segment.start_s + offsets)
    return np.concatenate(parts)


def _rows(text: str) -> Iterator[tuple[float, float]]:
    last_s = -math.inf
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if number == 1 and _is_header(cells):
            continue
        time_s, rate = _row(number, cells)
        if time_s <= last_s:
            raise UserError("InvalidTraffic", f"line {number}: time {cells[0]} is not after the row before it")
        last_s = time_s
        yield time_s, rate


def _is_header(cells: list[str]) -> bool:
    return len(cells) == _COLUMNS and cells[0][:1].isalpha()


def _row(number: int, cells: list[str]) -> tuple[float, float]:
    if len(cells) != _COLUMNS:
        raise UserError("InvalidTraffic", f"line {number}: {len(cells)} columns; there are two: time and requests/s")
    try:
        time_s, rate = _time_s(cells[0]), float(cells[1])
    except ValueError:
        raise UserError("InvalidTraffic", f"line {number}: {','.join(cells)} is not a time and requests/s") from None
    if not (math.isfinite(time_s) and math.isfinite(rate) and rate >= 0):
        raise UserError("InvalidTraffic", f"line {number}: requests/s = {cells[1]}, must be a number of 0 or more")
    return time_s, rate


def _time_s(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()
