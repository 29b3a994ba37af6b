"""W3C trace context: what a request says about its trace, and what a request made on its behalf says (pure, but for ids).

https://www.w3.org/TR/trace-context/. `baggage` is the application's: it is passed on as it came.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01
_RANDOM = 0x02
"""Flags that this level knows; others are not passed on (section 4.3)."""
_TRACESTATE_MEMBERS_MAX = 32
"""Of the standard: a longer list is no list."""
_KEY = re.compile(r"[a-z0-9][a-z0-9_\-*/]{0,255}(@[a-z0-9][a-z0-9_\-*/]{0,13})?")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One request's place in a trace."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits: who made the request."""
    flags: int
    tracestate: str = ""
    """What tracing systems keep for themselves; "" for nothing."""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse_trace(traceparent: str | None, tracestate: str | None = None) -> TraceContext | None:
    """The context of these headers; None where there is none that is valid. An invalid tracestate is dropped alone."""
    match = _TRACEPARENT.fullmatch((traceparent or "").strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16) & (_SAMPLED | _RANDOM), parse_tracestate(tracestate))


def parse_tracestate(text: str | None) -> str:
    """The list without its empty members; "" where a member is malformed, twice there, or there are too many."""
    members = [member.strip(" \t") for member in (text or "").split(",")]
    members = [member for member in members if member]
    keys = set()
    for member in members:
        key, equals, value = member.partition("=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value) or key in keys:
            return ""
        keys.add(key)
    return ",".join(members) if len(members) <= _TRACESTATE_MEMBERS_MAX else ""


def trace_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What a request made on behalf of one with these headers (names in lower case) says about its trace.

    The same trace with a span of its own; a new trace, not sampled, where the request's is missing or invalid. Its
    tracestate, where valid, and its baggage go along.
    """
    found = parse_trace(headers.get("traceparent"), headers.get("tracestate"))
    trace_id = found.trace_id if found is not None else secrets.token_hex(16)
    own = TraceContext(trace_id, secrets.token_hex(8), found.flags if found is not None else _RANDOM)
    passed = {"traceparent": own.traceparent}
    if found is not None and found.tracestate:
        passed["tracestate"] = found.tracestate
    if "baggage" in headers:
        passed["baggage"] = headers["baggage"]
    return passed
