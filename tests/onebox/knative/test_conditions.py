"""The living condition set: what makes Ready, and when times move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.api.meta import Condition
from onebox.knative.conditions import FALSE, READY, TRUE, UNKNOWN, LivingConditions

DEPENDENTS = ("A", "B", "C")


def living(*current: Condition, now_s: float = 100.0) -> LivingConditions:
    return LivingConditions(DEPENDENTS, current, now_s=now_s)


def test_all_is_unknown_at_first() -> None:
    assert {found.type: found.status for found in living().result()} == dict.fromkeys((*DEPENDENTS, READY), UNKNOWN)


def test_ready_when_every_dependent_is() -> None:
    conditions = living()
    for type_ in DEPENDENTS:
        assert conditions.status(READY) == UNKNOWN
        conditions.mark_true(type_)
    assert conditions.status(READY) == TRUE


def test_ready_copies_the_last_failure() -> None:
    conditions = living()
    conditions.mark_false("A", "First", "a")
    conditions.mark_false("B", "Second", "b")
    conditions.mark_true("C")
    ready = conditions[READY]
    assert ready is not None
    assert (ready.status, ready.reason, ready.message) == (FALSE, "Second", "b")


def test_a_failure_outweighs_what_is_unknown() -> None:
    conditions = living()
    conditions.mark_false("A", "Broken")
    conditions.mark_unknown("B", "Waiting")
    ready = conditions[READY]
    assert ready is not None
    assert (ready.status, ready.reason) == (FALSE, "Broken")


def test_recovery_leaves_the_other_failure() -> None:
    conditions = living()
    conditions.mark_false("A", "First")
    conditions.mark_false("B", "Second")
    conditions.mark_true("B")
    ready = conditions[READY]
    assert ready is not None
    assert ready.reason == "First"


def test_informational_conditions_change_nothing_else() -> None:
    conditions = living()
    for type_ in DEPENDENTS:
        conditions.mark_true(type_)
    conditions.mark_false("Active", "NoTraffic")
    assert conditions.status(READY) == TRUE
    active = conditions["Active"]
    assert active is not None
    assert active.severity == "Info"


def test_a_set_without_dependents_is_its_ready() -> None:
    conditions = LivingConditions((), (), now_s=1.0)
    conditions.mark_true(READY)
    assert conditions.status(READY) == TRUE
    conditions.mark_false(READY, "Broken")
    assert conditions.status(READY) == FALSE


def test_what_ends_as_it_was_keeps_its_time() -> None:
    before = living(now_s=100.0)
    before.mark_true("A")
    conditions = living(*before.result(), now_s=200.0)
    conditions.mark_unknown("A", "Busy")
    conditions.mark_true("A")
    assert conditions.result() == before.result()


def test_what_changed_gets_the_time_of_now() -> None:
    before = living(now_s=100.0).result()
    conditions = living(*before, now_s=200.0)
    conditions.mark_true("A")
    times = {found.type: found.lastTransitionTime for found in conditions.result()}
    assert times["A"] == "1970-01-01T00:03:20Z"
    assert times["B"] == "1970-01-01T00:01:40Z"


MARKS = st.lists(st.tuples(st.sampled_from(DEPENDENTS), st.sampled_from((TRUE, FALSE, UNKNOWN))), max_size=12)


@given(MARKS)
def test_ready_is_the_worst_of_the_dependents(marks: list[tuple[str, str]]) -> None:
    conditions = living()
    for type_, status in marks:
        conditions.mark(type_, status, "Because")
    found = [conditions.status(type_) for type_ in DEPENDENTS]
    worst = FALSE if FALSE in found else UNKNOWN if UNKNOWN in found else TRUE
    assert conditions.status(READY) == worst


@given(MARKS)
def test_the_same_marks_again_change_nothing_that_lasts(marks: list[tuple[str, str]]) -> None:
    def again(current: list[Condition], now_s: float) -> list[Condition]:
        conditions = living(*current, now_s=now_s)
        for type_, status in marks:
            conditions.mark(type_, status, "Because")
        return conditions.result()

    # Of failures of one second a later pass cannot tell the order, so that the second pass may choose another one.
    settled = again(again([], 100.0), 200.0)
    assert again(settled, 300.0) == settled
