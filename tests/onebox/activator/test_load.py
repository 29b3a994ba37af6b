"""What the activator counts and tells, to the digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.plan import Key
from ladle.server.stats import ConcurrencyStats, Report
from onebox.knative.activator.load import LoadBook
from onebox.knative.stats_link import ActivatorStat, decode_stat, encode_stat

KEY = Key("default", "r-1")


def stat(concurrency: float, count: float) -> ActivatorStat:
    return ActivatorStat(namespace="default", name="r-1", average_concurrent_requests=concurrency, request_count=count)


def test_the_first_request_is_told_at_once_and_not_again() -> None:
    book = LoadBook()
    assert book.arrive(KEY, 0.0) == stat(1, 1)
    assert book.arrive(KEY, 0.5) is None
    assert book.report(1.0) == [stat(0.5, 1)]
    assert book.report(2.0) == [stat(2, 0)]


def test_a_short_first_request_is_not_told_below_zero() -> None:
    book = LoadBook()
    book.arrive(KEY, 0.0)
    book.depart(KEY, 0.1)
    assert book.report(1.0) == [stat(0, 0)]


def test_a_silent_revision_is_forgotten_and_its_next_request_is_a_first_one() -> None:
    book = LoadBook()
    book.arrive(KEY, 0.0)
    book.depart(KEY, 0.5)
    book.report(1.0)
    assert book.report(2.0) == [stat(0, 0)]
    assert book.report(3.0) == []
    assert book.arrive(KEY, 3.5) == stat(1, 1)


def test_those_who_wait_can_be_told_anew() -> None:
    book = LoadBook()
    assert book.waiting() == []
    for second in range(3):
        book.arrive(KEY, second)
    book.depart(KEY, 3)
    assert book.waiting() == [stat(2, 0)]


def test_a_line_is_read_as_it_was_written() -> None:
    assert decode_stat(encode_stat(stat(1.5, 3))) == stat(1.5, 3)
    for line in (b"{}", b"[]", b"nonsense", b'{"namespace":"a","name":"b","average_concurrent_requests":"x"}'):
        with pytest.raises(ValueError, match=r"."):
            decode_stat(line)


def test_averages_are_over_the_time_of_the_period() -> None:
    stats = ConcurrencyStats(0.0)
    stats.arrive(0.25, proxied=True)
    stats.arrive(0.5, proxied=False)
    stats.depart(0.75, proxied=True)
    assert stats.report(1.0) == Report(
        average_concurrency=1.0, average_proxied_concurrency=0.5, request_count=2, proxied_request_count=1
    )
    assert stats.report(2.0) == Report(average_concurrency=1.0)
    assert stats.report(2.0) == Report()


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.booleans()), max_size=30))
def test_the_average_is_the_time_that_requests_took(visits: list[tuple[float, float, bool]]) -> None:
    """Little's law: what is inside on average is what the requests of the period took, over its length."""
    stats = ConcurrencyStats(0.0)
    events = [(start, "arrive", proxied) for start, _, proxied in visits]
    events += [(start + took, "depart", proxied) for start, took, proxied in visits]
    for now_s, event, proxied in sorted(events, key=lambda event: event[:2]):
        (stats.arrive if event == "arrive" else stats.depart)(now_s, proxied)
    report = stats.report(20.0)
    assert report.average_concurrency * 20 == pytest.approx(sum(took for _, took, _ in visits), abs=1e-6)
    proxied_s = sum(took for _, took, proxied in visits if proxied)
    assert report.average_proxied_concurrency * 20 == pytest.approx(proxied_s, abs=1e-6)
    assert (report.request_count, stats.concurrency, stats.proxied) == (len(visits), 0, 0)
