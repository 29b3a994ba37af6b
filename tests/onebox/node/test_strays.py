"""Which processes are nobody's."""

from __future__ import annotations

from onebox.node.process_table import Seen
from onebox.node.state import ContainerRecord, PodRecord, note_running, note_starting
from onebox.node.strays import find_strays
from onebox.processes import ProcessId

POD = {"LADLE_ONEBOX_HOME": "/home", "LADLE_POD_UID": "u", "LADLE_LAUNCH": "known"}
TEMPLATE = {"LADLE_ONEBOX_HOME": "/home", "LADLE_TEMPLATE": "sklearnserver/1"}
MAIN, FORKED, LIBRARY = ProcessId(10, 1), ProcessId(20, 2), ProcessId(30, 3)


def seen(identity: ProcessId, variables: dict[str, str], session: int | None = None) -> Seen:
    return Seen(identity=identity, session=identity.pid if session is None else session, variables=variables)


def entry(launch: str, process: ProcessId | None) -> ContainerRecord:
    starting = note_starting(ContainerRecord(), launch=launch, now_s=0.0, now_at="a")
    return starting if process is None else note_running(starting, process)


RECORD = PodRecord(
    namespace="default",
    name="pod",
    uid="u",
    started_at="a",
    started_s=0.0,
    containers={"main": entry("known", MAIN), "forked": entry("other", FORKED), "interrupted": entry("begun", None)},
)
ALIVE = (seen(MAIN, POD), seen(FORKED, TEMPLATE), seen(LIBRARY, TEMPLATE))


def strays(*processes: Seen, records: tuple[PodRecord, ...] = (RECORD,)) -> set[int]:
    return {found.pid for found in find_strays((*ALIVE, *processes), records, [LIBRARY])}


def test_what_is_recorded_is_nobodys_stray() -> None:
    assert strays() == set()


def test_what_shares_a_session_with_it_is_none_either() -> None:
    assert strays(seen(ProcessId(11, 5), POD, session=10), seen(ProcessId(21, 5), TEMPLATE, session=20)) == set()


def test_a_child_in_a_session_of_its_own_is_known_by_the_run_in_its_environment() -> None:
    assert strays(seen(ProcessId(12, 5), POD)) == set()


def test_what_was_forked_and_never_written_down_is_a_stray() -> None:
    begun = seen(ProcessId(40, 5), {**POD, "LADLE_LAUNCH": "begun"})
    forked = seen(ProcessId(41, 5), TEMPLATE)
    assert strays(begun, forked) == {40, 41}


def test_what_an_ended_run_left_behind_is_a_stray() -> None:
    rest = seen(ProcessId(50, 5), {**POD, "LADLE_LAUNCH": "ended"}, session=49)
    assert strays(rest) == {50}


def test_a_pid_that_is_used_again_is_another_process() -> None:
    assert {found.pid for found in find_strays([seen(ProcessId(10, 999), POD)], [RECORD], [])} == {10}


def test_without_its_record_a_whole_pod_is_a_stray() -> None:
    assert strays(records=()) == {10, 20}


def test_components_and_other_processes_of_the_home_are_left_alone() -> None:
    component = seen(ProcessId(60, 5), {"LADLE_ONEBOX_HOME": "/home", "LADLE_COMPONENT": "envoy"})
    assert strays(component, seen(ProcessId(61, 5), {"LADLE_ONEBOX_HOME": "/home"})) == set()
