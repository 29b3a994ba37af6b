"""Which headers go on to the predictor, and what becomes of traces that are none."""

from __future__ import annotations

from ladle.server.trace import parse_trace
from ladle.transformer.passing import passed_headers

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_valid_trace_goes_on_as_it_came() -> None:
    headers = {"traceparent": PARENT, "tracestate": "a=1", "baggage": "user=1", "x-b3-traceid": "7"}
    assert passed_headers({**headers, "cookie": "secret"}) == headers


def test_an_invalid_one_is_replaced_and_the_baggage_untouched() -> None:
    passed = passed_headers({"traceparent": "nonsense", "tracestate": "a=1", "baggage": "user=1"})
    assert parse_trace(passed["traceparent"]) is not None
    assert set(passed) == {"traceparent", "baggage"}
    assert passed["baggage"] == "user=1"


def test_an_invalid_tracestate_is_left_out() -> None:
    assert passed_headers({"traceparent": PARENT, "tracestate": "A"}) == {"traceparent": PARENT}
    assert passed_headers({"tracestate": "a=1"}) == {}
