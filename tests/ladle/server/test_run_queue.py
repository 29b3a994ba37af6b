"""What runs at once, what in turns, and how long the rest was unread: by a clock and a loop that the test drives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from ladle.server.run_queue import ALONE_GAP_S, CROWDED_S, TURN_S_MAX, TURN_SHARE, RunQueue

START_S = 100.0


class Machine:
    """A clock and the part of a loop that a run queue needs."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.scheduled: list[Callable[[], None]] = []
        self.ran: list[str] = []
        self.queue = RunQueue(cast("asyncio.AbstractEventLoop", self), self)

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.scheduled.append(callback)

    def turn(self) -> list[str]:
        """What runs before the next look at the sockets."""
        self.ran.clear()
        scheduled, self.scheduled = self.scheduled, []
        for callback in scheduled:
            callback()
        return self.ran.copy()

    def put(self, name: str, *, took_s: float, then: Callable[[], None] | None = None) -> None:
        self.queue.put(Piece(self, name, took_s, then), self.now_s)

    def crowd(self, count: int, *, took_s: float) -> None:
        """So many read at once, with the first under way already."""
        self.put("alone", took_s=took_s)
        for number in range(count):
            self.put(str(number), took_s=took_s)


class Piece:
    def __init__(self, machine: Machine, name: str, took_s: float, then: Callable[[], None] | None) -> None:
        self.machine, self.name, self.took_s, self.then = machine, name, took_s, then

    def run(self) -> None:
        self.machine.now_s += self.took_s
        self.machine.ran.append(self.name)
        if self.then is not None:
            self.then()


def test_a_client_alone_is_answered_at_once() -> None:
    machine = Machine()
    for name in "abc":
        machine.turn()
        machine.now_s += 2 * ALONE_GAP_S  # It had to read its answer first.
        machine.put(name, took_s=0.0001)
        assert machine.ran == [name]


def test_what_was_waiting_beside_it_gets_its_turn() -> None:
    machine = Machine()
    machine.put("a", took_s=0.0001)
    machine.now_s += 1000 * ALONE_GAP_S  # However long the reading took.
    machine.put("b", took_s=0.0001)  # Read in the same look at the sockets.
    assert machine.ran == ["a"]
    assert machine.turn() == ["b"]


def test_what_came_while_it_ran_gets_its_turn() -> None:
    machine = Machine()
    machine.put("a", took_s=0.0001)
    assert machine.turn() == []
    machine.put("b", took_s=0.0001)  # Read in the next look, in the moment in which "a" was done.
    assert machine.ran == []
    assert machine.turn() == ["b"]


def test_after_a_crowd_nothing_runs_at_once_for_a_while() -> None:
    machine = Machine()
    machine.crowd(1, took_s=0.0001)
    machine.turn()
    machine.put("soon", took_s=0.0001)
    assert machine.turn() == ["soon"]
    machine.now_s += 2 * CROWDED_S
    machine.put("later", took_s=0.0001)
    assert machine.ran == ["soon", "later"]


def test_what_a_piece_puts_in_does_not_run_inside_it() -> None:
    machine = Machine()
    machine.put("outer", took_s=0.0001, then=lambda: machine.put("inner", took_s=0.0001))
    assert machine.ran == ["outer"]
    assert machine.turn() == ["inner"]


def test_a_turn_takes_its_share_and_the_rest_counts_from_its_middle() -> None:
    machine = Machine()
    machine.crowd(4 * TURN_SHARE, took_s=0.0003)
    assert machine.turn() == ["0", "1", "2", "3"]
    assert machine.queue.unread_s == pytest.approx(4 * 0.0003 / 2)
    assert len(machine.scheduled) == 1, "the next turn comes after the sockets"


def test_quick_pieces_fill_a_turn() -> None:
    machine = Machine()
    machine.crowd(8, took_s=0.00006)
    assert machine.turn() == ["0", "1", "2", "3"]  # More than a share of two: they have not taken 200 us before.


def test_no_turn_is_longer_than_it_may_be() -> None:
    machine = Machine()
    machine.crowd(100, took_s=0.6 * TURN_S_MAX)
    assert machine.turn() == ["0", "1"]


def test_where_nothing_is_left_nobody_can_tell_how_long_the_next_has_waited() -> None:
    machine = Machine()
    machine.crowd(1, took_s=0.0003)
    machine.turn()
    assert machine.queue.unread_s == 0
    assert machine.scheduled == []
