"""Which headers of a request go on to the predictor."""

from __future__ import annotations

from collections.abc import Mapping

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
    """Those that the next server needs to know who asks, and in which trace."""
    return {name: value for name, value in headers.items() if name.lower() in PASSED}
