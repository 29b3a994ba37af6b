"""The breaker: never above its capacity, in order, and nobody is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladle.server.breaker import QUEUE_FACTOR, Breaker


class Someone:
    def __init__(self) -> None:
        self.admitted = 0

    def admit(self) -> None:
        self.admitted += 1


def test_capacity_run_ten_times_as_many_wait_and_the_rest_goes() -> None:
    breaker, crowd = Breaker(2), [Someone() for _ in range(30)]
    accepted = [breaker.enter(someone) for someone in crowd]
    assert accepted == [True] * 22 + [False] * 8
    assert [someone.admitted for someone in crowd] == [1, 1] + [0] * 28


def test_those_who_wait_are_admitted_in_order() -> None:
    breaker, crowd = Breaker(1), [Someone() for _ in range(4)]
    for someone in crowd:
        breaker.enter(someone)
    breaker.leave(crowd[2])  # Gave up in the middle of the queue.
    breaker.leave(crowd[0])
    assert [someone.admitted for someone in crowd] == [1, 1, 0, 0]
    breaker.leave(crowd[1])
    assert [someone.admitted for someone in crowd] == [1, 1, 0, 1]


def test_no_capacity_is_no_limit() -> None:
    breaker = Breaker(0)
    crowd = [Someone() for _ in range(1000)]
    assert all(breaker.enter(someone) for someone in crowd)
    assert breaker.running == 1000
    for someone in crowd:
        breaker.leave(someone)
    assert breaker.running == 0


def test_a_negative_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity = -1"):
        Breaker(-1)


@given(st.integers(1, 3), st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=200))
def test_it_is_never_above_capacity_and_loses_nobody(capacity: int, steps: list[tuple[bool, int]]) -> None:
    breaker, present, left = Breaker(capacity), [], set()
    for enters, choice in steps:
        if enters:
            someone = Someone()
            if breaker.enter(someone):
                present.append(someone)
            else:
                assert breaker.queue_depth == QUEUE_FACTOR * capacity
        elif present:
            someone = present.pop(choice % len(present))
            breaker.leave(someone)
            breaker.leave(someone)  # Leaving twice is harmless.
            left.add(someone)
        assert breaker.running == sum(bool(someone.admitted) for someone in present) <= capacity
        assert breaker.queue_depth == sum(not someone.admitted for someone in present)
        assert not breaker.queue_depth or breaker.running == capacity
        assert all(someone.admitted <= 1 for someone in [*present, *left])
