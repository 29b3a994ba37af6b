"""Concurrency to the digit: one computed by hand, the rest by its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.server.stats import ConcurrencyStats, Report


def test_a_second_computed_by_hand() -> None:
    stats = ConcurrencyStats(100.0)
    stats.arrive(100.2, proxied=False)  # One inside from 0.2 ...
    stats.arrive(100.5, proxied=True)  # ... two from 0.5 ...
    stats.depart(100.9, proxied=False)  # ... one from 0.9: 0.3 + 0.8 + 0.1 = 1.2
    assert stats.report(101.0) == Report(
        average_concurrency=pytest.approx(1.2),
        average_proxied_concurrency=pytest.approx(0.5),
        request_count=2,
        proxied_request_count=1,
    )


def test_what_was_unread_before_it_arrived_counts() -> None:
    stats = ConcurrencyStats(0.0)
    stats.arrive(0.5, proxied=True, unread_s=0.25)
    stats.depart(0.75, proxied=True)
    assert stats.report(1.0) == Report(
        average_concurrency=0.5, average_proxied_concurrency=0.5, request_count=1, proxied_request_count=1
    )


def test_who_stays_counts_in_the_next_period_but_arrives_only_once() -> None:
    stats = ConcurrencyStats(0.0)
    stats.arrive(0.0, proxied=False)
    stats.report(1.0)
    assert stats.report(2.0) == Report(average_concurrency=1.0)


def test_a_period_without_time_has_no_average() -> None:
    stats = ConcurrencyStats(5.0)
    stats.arrive(5.0, proxied=False)
    assert stats.report(5.0) == Report(request_count=1)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.booleans()), max_size=30))
def test_the_average_is_the_time_spent_inside_over_the_time(visits: list[tuple[float, float, bool]]) -> None:
    spans = [(min(begin, end), max(begin, end), proxied) for begin, end, proxied in visits]
    events = sorted(
        [(begin, 0, proxied) for begin, _, proxied in spans] + [(end, 1, proxied) for _, end, proxied in spans],
    )
    stats = ConcurrencyStats(0.0)
    for moment, leaves, proxied in events:
        (stats.depart if leaves else stats.arrive)(moment, proxied)
    report = stats.report(10.0)
    assert report.average_concurrency == pytest.approx(sum(end - begin for begin, end, _ in spans) / 10)
    assert report.average_proxied_concurrency == pytest.approx(sum(e - b for b, e, proxied in spans if proxied) / 10)
    assert (stats.concurrency, stats.proxied) == (0, 0)
