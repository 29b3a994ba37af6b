"""W3C trace context, by the standard's own examples and rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.server.trace import parse_trace, parse_tracestate, trace_headers

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_valid_context_is_read() -> None:
    found = parse_trace(PARENT, "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE")
    assert found is not None
    assert (found.trace_id, found.span_id, found.flags) == (TRACE, SPAN, 1)
    assert found.tracestate == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert found.traceparent == PARENT


@pytest.mark.parametrize(
    "traceparent",
    [
        *("", "nonsense", f"00-{TRACE}-{SPAN}", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01"),
        *(f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{SPAN}-01", f"{PARENT}-more", f"00-{TRACE[1:]}-{SPAN}-01"),
        f"{PARENT}, {PARENT}",  # Two headers, joined.
    ],
)
def test_an_invalid_one_is_none_and_is_replaced(traceparent: str) -> None:
    assert parse_trace(traceparent) is None
    sent = trace_headers({"traceparent": traceparent, "tracestate": "a=1", "baggage": "user=1"})
    new = parse_trace(sent["traceparent"])
    assert new is not None
    assert (new.trace_id != TRACE, new.flags & 1) == (True, 0)
    assert "tracestate" not in sent, "of a trace that nobody knows"
    assert sent["baggage"] == "user=1"


def test_a_version_to_come_is_read_as_far_as_it_is_known() -> None:
    found = parse_trace(f"cc-{TRACE}-{SPAN}-ff-what-comes-then")
    assert found is not None
    assert found.traceparent == f"00-{TRACE}-{SPAN}-03"


def test_a_request_on_its_behalf_has_the_trace_and_a_span_of_its_own() -> None:
    headers = {"traceparent": PARENT, "tracestate": "a=1", "baggage": "k=v;p, other=%20", "x-other": "1"}
    first, second = trace_headers(headers), trace_headers(headers)
    found = parse_trace(first["traceparent"])
    assert found is not None
    assert (found.trace_id, found.flags) == (TRACE, 1)
    assert len({PARENT, first["traceparent"], second["traceparent"]}) == 3
    assert (first["tracestate"], first["baggage"]) == ("a=1", headers["baggage"])
    assert set(first) == {"traceparent", "tracestate", "baggage"}


@pytest.mark.parametrize("text", ["a", "a=", "A=1", "a=1,a=2", "a=1=2", "=1", ",".join(f"k{i}=1" for i in range(33))])
def test_a_broken_tracestate_is_dropped_and_the_trace_kept(text: str) -> None:
    assert parse_tracestate(text) == ""
    assert trace_headers({"traceparent": PARENT, "tracestate": text})["traceparent"].startswith(f"00-{TRACE}")


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_comes_what_goes_out_is_valid(traceparent: str, tracestate: str) -> None:
    sent = trace_headers({"traceparent": traceparent, "tracestate": tracestate})
    assert parse_trace(sent["traceparent"]) is not None
    assert parse_tracestate(sent.get("tracestate")) == sent.get("tracestate", "")
