"""Which bytes of a file are still to come, and in which parts. (pure)"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Span = tuple[int, int]
"""Bytes [start, end) of a file."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, end) that one connection brings; `end` is None for a file of unknown size."""

    start: int
    end: int | None


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same bytes in as few spans as possible, sorted; empty ones are gone."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def plan_parts(size_bytes: int | None, done: Sequence[Span], part_bytes: int | None) -> tuple[Part, ...]:
    """Parts of at most `part_bytes` (None: any size) that bring every byte that is not `done`, and no other.

    >>> plan_parts(10, [(0, 3)], 4)
    (Part(start=3, end=7), Part(start=7, end=10))
    """
    spans = merge_spans(done)
    if size_bytes is None:
        # One stream from the start of the file: only what is there without a gap counts.
        return (Part(spans[0][1] if spans and spans[0][0] == 0 else 0, None),)
    parts = []
    at = 0
    for start, end in (*spans, (size_bytes, size_bytes)):
        while at < min(start, size_bytes):
            until = min(start, size_bytes, at + part_bytes if part_bytes else size_bytes)
            parts.append(Part(at, until))
            at = until
        at = max(at, end)
    return tuple(parts)
