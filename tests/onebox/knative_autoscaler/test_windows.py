"""Sliding averages: the worked numbers of the reference, and what must hold for any load."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.knative.autoscaler.windows import (
    Aggregation,
    Metric,
    Observed,
    RevisionWindows,
    Window,
    panic_window_s,
    round_half_away,
    smoothing_coefficient,
)

START_S = 1_700_000_000
values = st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1000)), max_size=40)


def linear(length_s: int = 5) -> Window:
    return Window(length_s, Aggregation.LINEAR)


def filled(window: Window, *samples: float) -> Window:
    for second, value in enumerate(samples):
        window.record(START_S + second, value)
    return window


def test_a_young_window_averages_only_the_seconds_it_has_seen() -> None:
    assert filled(linear(), 1).average(START_S) == 1
    assert filled(linear(), 1, 2, 3, 4, 5).average(START_S + 4) == 3


def test_missing_trailing_seconds_are_no_zeros() -> None:
    window = filled(linear(), 1, 2, 3, 4, 5)
    assert window.average(START_S + 6) == (15 - 1 - 2) / 3
    assert window.average(START_S + 10) == 0


def test_gaps_between_records_are_zeros() -> None:
    window = filled(linear(), 1, 2, 3, 4, 5)
    window.record(START_S + 6, 91)
    assert window.average(START_S + 6) == pytest.approx((3 + 4 + 5 + 0 + 91) / 5)


def test_values_of_one_second_add_up() -> None:
    window = linear()
    window.record(START_S + 0.1, 3)
    window.record(START_S + 0.9, 4)
    assert window.average(START_S + 0.95) == 7


def test_a_late_value_joins_its_bucket_and_an_older_one_is_ignored() -> None:
    window = linear()
    window.record(START_S + 4, 10)
    window.record(START_S + 2, 5)
    assert window.average(START_S + 4) == 5  # 15 over the three seconds that the window now spans.
    window.record(START_S - 1, 1000)
    assert window.average(START_S + 4) == 5


def test_silence_of_a_whole_window_begins_a_new_one() -> None:
    window = filled(linear(), 9, 9, 9, 9, 9)
    window.record(START_S + 9, 2)
    assert window.average(START_S + 9) == 2


def test_a_window_is_empty_after_more_than_its_length() -> None:
    assert linear().is_empty(START_S)
    window = filled(linear(), 1)
    assert not window.is_empty(START_S + 5)
    assert window.is_empty(START_S + 6)


def test_a_shorter_window_keeps_its_newest_seconds_and_a_longer_one_keeps_all() -> None:
    window = filled(linear(), 1, 2, 3, 4, 5)
    assert window.resized(2, START_S + 4).average(START_S + 4) == 4.5
    assert window.resized(60, START_S + 4).average(START_S + 4) == 3
    assert window.resized(60, START_S + 100).average(START_S + 100) == 0


@pytest.mark.parametrize(("length_s", "alpha"), [(5, 0.84151), (6, 0.78456), (10, 0.60189), (40, 0.20567), (60, 0.2)])
def test_the_decay_follows_the_length(length_s: int, alpha: float) -> None:
    assert smoothing_coefficient(length_s) == pytest.approx(alpha, abs=1e-5)


def test_the_exponential_average_weighs_by_age_and_is_not_normalised() -> None:
    window = filled(Window(5, Aggregation.WEIGHTED_EXPONENTIAL), 10, 20)
    alpha = smoothing_coefficient(5)
    assert window.average(START_S + 1) == pytest.approx(20 * alpha + 10 * alpha * (1 - alpha))
    assert window.average(START_S + 2) == pytest.approx((20 * alpha + 10 * alpha * (1 - alpha)) * (1 - alpha))
    assert window.average(START_S + 7) == 0


@pytest.mark.parametrize(("value", "rounded"), [(0.0000005, 0.000001), (-0.0000005, -0.000001), (1.2345674, 1.234567)])
def test_halves_round_away_from_zero(value: float, rounded: float) -> None:
    assert round_half_away(value) == rounded


@pytest.mark.parametrize(
    ("stable_s", "percentage", "panic_s"), [(60, 10, 6), (6, 10, 1), (30, 10, 3), (60, 1, 1), (25, 10, 3)]
)
def test_the_panic_window_is_a_part_of_the_stable_one(stable_s: float, percentage: float, panic_s: int) -> None:
    assert panic_window_s(stable_s, percentage) == panic_s


def test_a_revision_observes_the_metric_that_it_asks_for() -> None:
    windows = RevisionWindows(6, 1, aggregation=Aggregation.LINEAR)
    windows.record(START_S, concurrency=2, rps=20)
    windows.record(START_S + 1, concurrency=4, rps=40)
    assert windows.observe(Metric.CONCURRENCY, START_S + 1) == Observed(stable=3, panic=4)
    assert windows.observe(Metric.RPS, START_S + 1) == Observed(stable=30, panic=40)
    windows.resize(60, 6, now_s=START_S + 1)
    assert windows.observe(Metric.CONCURRENCY, START_S + 1) == Observed(stable=3, panic=4)


@given(values, st.integers(0, 20), st.sampled_from(Aggregation))
def test_an_average_never_exceeds_the_largest_second(
    samples: list[tuple[int, float]], later_s: int, aggregation: Aggregation
) -> None:
    window = Window(7, aggregation)
    by_second: dict[int, float] = {}
    for second, value in sorted(samples):
        window.record(START_S + second, value)
        by_second[second] = by_second.get(second, 0) + value
    now_s = START_S + max(by_second, default=0) + later_s
    assert -1e-3 <= window.average(now_s) <= max(by_second.values(), default=0) + 1e-3


@given(values)
def test_the_order_within_a_window_does_not_matter(samples: list[tuple[int, float]]) -> None:
    recent = [(second % 7, value) for second, value in samples]
    forward, backward = linear(7), linear(7)
    for window, order in ((forward, recent), (backward, recent[::-1])):
        window.record(START_S + 6, 0)  # Both span the same seconds.
        for second, value in order:
            window.record(START_S + second, value)
    assert forward.average(START_S + 6) == pytest.approx(backward.average(START_S + 6), abs=1e-5)
