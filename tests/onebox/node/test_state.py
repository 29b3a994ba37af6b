"""Records: what they say after each step, and that they survive being written down."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.node.state import (
    ContainerRecord,
    Ended,
    PodRecord,
    Stage,
    Waiting,
    crash_backoff_s,
    dump_record,
    note_ended,
    note_not_started,
    note_running,
    note_starting,
    parse_record,
)
from onebox.processes import ProcessId

PROCESS = ProcessId(7, 70)


def ended(exit_code: int = 1, *, lost: bool = False) -> Ended:
    return Ended(exit_code=exit_code, reason="Error", started_at="a", finished_at="b", launch="l", lost=lost)


def run(record: ContainerRecord, *, at_s: float, lasts_s: float, lost: bool = False) -> ContainerRecord:
    record = note_running(note_starting(record, launch=f"l{at_s}", now_s=at_s, now_at="a"), PROCESS)
    return note_ended(record, ended(lost=lost), now_s=at_s + lasts_s)


def test_the_first_restart_is_immediate_and_then_the_wait_doubles_to_five_minutes() -> None:
    record, now_s, waits = ContainerRecord(), 1000.0, []
    for _ in range(8):
        record = run(record, at_s=now_s, lasts_s=1.0)
        waits.append(record.retry_s - (now_s + 1.0))
        now_s = record.retry_s
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert record.restarts == 7


def test_after_a_run_that_lasted_the_back_off_begins_anew() -> None:
    record = ContainerRecord()
    for _ in range(4):
        record = run(record, at_s=record.retry_s, lasts_s=1.0)
    assert run(record, at_s=1000.0, lasts_s=601.0).retry_s == 1601.0


def test_a_run_whose_end_nobody_saw_costs_no_back_off() -> None:
    record = run(run(ContainerRecord(), at_s=0.0, lasts_s=1.0), at_s=1.0, lasts_s=1.0, lost=True)
    assert record.retry_s == 2.0
    assert record.crashes == 1


def test_the_run_before_stays_visible() -> None:
    record = note_starting(run(ContainerRecord(), at_s=0.0, lasts_s=1.0), launch="second", now_s=2.0, now_at="c")
    assert record.stage is Stage.STARTING
    assert record.restarts == 1
    assert record.ended is None
    assert record.previous == ended()


def test_what_cannot_be_started_is_tried_again_after_a_growing_wait() -> None:
    record, waiting = ContainerRecord(), Waiting(reason="ErrImagePull", message="no")
    waits = []
    for _ in range(8):
        record = note_not_started(record, waiting, now_s=100.0)
        waits.append(record.retry_s - 100.0)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    started = note_running(note_starting(record, launch="l", now_s=200.0, now_at="a"), PROCESS)
    assert (started.restarts, started.waiting, started.crashes) == (0, None, 0)


def test_failed_starts_are_no_crashes() -> None:
    record = ContainerRecord()
    for _ in range(5):
        record = note_not_started(record, Waiting(reason="ErrImagePull"), now_s=0.0)
    assert run(record, at_s=100.0, lasts_s=1.0).retry_s == 101.0


@given(st.integers(min_value=0, max_value=10_000))
def test_no_wait_is_longer_than_five_minutes(crashes: int) -> None:
    assert 0 <= crash_backoff_s(crashes) <= 300


FULL = PodRecord(
    namespace="ns",
    name="pod",
    uid="uid",
    started_at="2026-11-21T08:00:00Z",
    started_s=50.0,
    ports={8080: 20001},
    containers={
        "running": note_running(note_starting(ContainerRecord(), launch="l", now_s=50.0, now_at="a"), PROCESS),
        "crashed": run(run(ContainerRecord(), at_s=0.0, lasts_s=1.0), at_s=1.0, lasts_s=1.0),
        "waiting": note_not_started(ContainerRecord(), Waiting(reason="R", message="m"), now_s=5.0),
    },
    stop_deadline_s=80.0,
    failure=Waiting(reason="DeadlineExceeded"),
)


def test_a_record_survives_being_written_down() -> None:
    assert parse_record(json.loads(json.dumps(dump_record(FULL))), now_s=60.0) == FULL


def test_after_a_reboot_no_time_lies_in_the_future() -> None:
    back = parse_record(json.loads(json.dumps(dump_record(FULL))), now_s=3.0)
    assert back.started_s == 3.0
    assert back.stop_deadline_s is None
    assert all(entry.started_s <= 3.0 for entry in back.containers.values())
    assert all(entry.retry_s <= 303.0 for entry in back.containers.values())


def test_only_running_containers_have_processes() -> None:
    assert list(FULL.processes()) == [("running", PROCESS)]


@pytest.mark.parametrize("missing", ["ports", "containers", "uid"])
def test_a_broken_record_is_an_error(missing: str) -> None:
    stored = {name: value for name, value in dump_record(FULL).items() if name != missing}
    with pytest.raises((KeyError, TypeError)):
        parse_record(stored, now_s=60.0)


def test_the_log_folder_has_kubelets_name() -> None:
    assert replace(FULL, namespace="a", name="b", uid="c").folder == "a_b_c"
