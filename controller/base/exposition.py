"""Metrics as Prometheus' text format has them: families of lines, and the instruments that fill them. (no I/O)

Not prometheus_client's: its counters must end in `_total`, which Knative's names do not, and it builds an object and takes a
lock for each sample, where a page of a thousand revisions has 20,000. The tests read every page with its parser.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(slots=True)
class Family:
    """One metric with all its samples."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    help_text: str
    lines: list[str] = field(default_factory=list)

    def add(self, labels: str, value: float, *, suffix: str = "") -> None:
        """One sample; `labels` is what `render_labels` returned."""
        number = int(value) if value == int(value) else value
        name = self.name + suffix
        self.lines.append(f"{name}{{{labels}}} {number}" if labels else f"{name} {number}")


Collect = Callable[[], Iterable[Family]]
"""What a part of a process has to show now; called for each page, in the loop, so that it must not block."""


def render_labels(**values: str) -> str:
    """Labels as they stand between the braces. Keep the result where the same ones come again."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items())


def render_page(families: Iterable[Family]) -> str:
    """The page; families of the same name become one, and those without samples are left out."""
    merged: dict[str, Family] = {}
    for family in families:
        known = merged.get(family.name)
        if known is None:
            merged[family.name] = Family(family.name, family.kind, family.help_text, list(family.lines))
        else:
            known.lines += family.lines
    parts = []
    for family in merged.values():
        if family.lines:
            parts.append(f"# HELP {family.name} {family.help_text}\n# TYPE {family.name} {family.kind}\n")
            parts.append("\n".join(family.lines) + "\n")
    return "".join(parts)


def parse_page(text: str) -> list[Family]:
    """The families of a page that `render_page` wrote; ValueError for any other text."""
    families: list[Family] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, help_text = line.split(" ", 3)
            families.append(Family(name, "", help_text))
        elif line.startswith("# TYPE ") and families:
            families[-1].kind = line.rsplit(" ", 1)[1]
        elif line and families and line.startswith(families[-1].name):
            families[-1].lines.append(line)
        elif line:
            raise ValueError(f"no line of metrics: {line[:80]!r}")
    return families


class Histogram:
    """How many observations fell at or under each bound, and their sum; 0.3 µs each."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        return sum(self._counts)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def add_to(self, family: Family, labels: str) -> None:
        """Its samples, with these labels."""
        before = f"{labels}," if labels else ""
        count = 0
        for bound, here in zip((*map(_bound, self._bounds), "+Inf"), self._counts, strict=True):
            count += here
            family.add(f'{before}le="{bound}"', count, suffix="_bucket")
        family.add(labels, self.total, suffix="_sum")
        family.add(labels, count, suffix="_count")


def _bound(value: float) -> str:
    return repr(float(value))
