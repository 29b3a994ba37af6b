"""How a limit is divided, and how long a restart waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.server.workers.plan import (
    RESTART_DELAY_S_MAX,
    decide_restart_delay_s,
    decide_share,
    decide_worker_count,
)


@given(st.integers(0, 1000), st.integers(1, 64))
def test_shares_add_up_and_nobody_gets_nothing(capacity: int, wanted: int) -> None:
    workers = decide_worker_count(wanted, capacity)
    shares = [decide_share(capacity, workers, index) for index in range(workers)]
    assert 1 <= workers <= wanted
    assert sum(shares) == capacity
    assert max(shares) - min(shares) <= 1
    assert capacity == 0 or min(shares) >= 1


@pytest.mark.parametrize(("failures", "delay_s"), [(1, 0), (2, 0.1), (3, 0.2), (5, 0.8), (40, RESTART_DELAY_S_MAX)])
def test_restarts_wait_longer_each_time(failures: int, delay_s: float) -> None:
    assert decide_restart_delay_s(failures) == pytest.approx(delay_s)
