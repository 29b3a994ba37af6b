"""Which headers of a request go on to the predictor."""

from __future__ import annotations

from collections.abc import Mapping

from ladle.server.trace import parse_trace, parse_tracestate, trace_headers

PASSED = frozenset(
    {
        # W3C trace context and baggage, and Zipkin's B3 in both forms.
        *("traceparent", "tracestate", "baggage", "b3"),
        *("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"),
        *("x-request-id", "authorization"),
    }
)
"""KServe passes on x-request-id, x-b3-traceid and authorization; half a trace is none."""


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those that the next server needs to know who asks, and in which trace.

    A valid W3C trace goes on as it came; an invalid one is replaced by a new one, and an invalid tracestate is left out.
    """
    passed = {name.lower(): value for name, value in headers.items() if name.lower() in PASSED}
    if "traceparent" not in passed:
        passed.pop("tracestate", None)  # Of no trace.
        return passed
    if parse_trace(passed["traceparent"]) is None:
        passed.pop("tracestate", None)
        return {**passed, **trace_headers(passed)}
    if "tracestate" in passed and not parse_tracestate(passed["tracestate"]):
        del passed["tracestate"]
    return passed
