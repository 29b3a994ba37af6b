"""Traces of traffic: what is read, what is refused, what arrivals follow."""

from __future__ import annotations

import numpy as np
import pytest

from controller.base.errors import UserError
from onebox.knative.simulation.traffic import Segment, arrivals_of, parse_traffic


def test_rows_hold_until_the_next_and_the_last_as_long_as_the_one_before_it() -> None:
    traffic = parse_traffic("time,requests_per_s\n# a remark\n0,10\n60,20.5\n\n120,0\n")
    assert traffic.segments == (Segment(0, 60, 10), Segment(60, 120, 20.5), Segment(120, 180, 0))
    assert traffic.duration_s == 180
    assert traffic.requests == 60 * 10 + 60 * 20.5


def test_dates_and_unix_times_count_from_the_first_row() -> None:
    dates = "2026-11-21T08:00:00Z,1\n2026-11-21T08:05:00+00:00,2\n"
    assert parse_traffic(dates).segments == (Segment(0, 300, 1), Segment(300, 600, 2))
    assert parse_traffic("1700000000,1\n1700000300,2").segments == parse_traffic(dates).segments


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least two rows"),
        ("time,rps\n0,1\n", "at least two rows"),
        ("0,1\n60\n", "line 2: 1 columns"),
        ("0,1\n60,2,3\n", "line 2: 3 columns"),
        ("0,1\n60,many\n", "line 2: 60,many is not a time and requests/s"),
        ("0,1\n60,-2\n", "line 2: requests/s = -2, must be a number of 0 or more"),
        ("0,1\n60,nan\n", "line 2: requests/s = nan"),
        ("0,1\n0,2\n", "line 2: time 0 is not after the row before it"),
        ("0,1e6\n60,1e6\n", "more than 20000000"),
    ],
)
def test_a_trace_that_cannot_be_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_traffic(text)


def test_even_arrivals_have_equal_distances() -> None:
    arrivals = arrivals_of(parse_traffic("0,4\n1,2\n"), np.random.default_rng(0), even=True)
    assert arrivals.tolist() == [0.125, 0.375, 0.625, 0.875, 1.25, 1.75]


def test_random_arrivals_are_a_poisson_process_and_the_same_for_a_seed() -> None:
    traffic = parse_traffic("0,100\n1000,0\n")
    arrivals = arrivals_of(traffic, np.random.default_rng(7))
    counts = np.histogram(arrivals, bins=1000, range=(0, 1000))[0]
    assert counts.mean() == pytest.approx(100, rel=0.02)
    assert counts.var() == pytest.approx(100, rel=0.2)  # Mean and variance of a Poisson count are equal.
    assert (np.diff(arrivals) >= 0).all()
    assert arrivals.tolist() == arrivals_of(traffic, np.random.default_rng(7)).tolist()
