"""Decisions in tables: pod, record and what was seen in; actions and the next look out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from onebox.node.decide import (
    Action,
    BeginStop,
    Decision,
    Drain,
    Fail,
    Kill,
    Launch,
    LetGo,
    Observed,
    StopStage,
    Terminate,
    decide_pod,
    is_finished,
)
from onebox.node.probing import Health, ProbeKind
from onebox.node.spec import Pod
from onebox.node.state import (
    ContainerRecord,
    Ended,
    PodRecord,
    Stage,
    Waiting,
    note_ended,
    note_not_started,
    note_running,
    note_starting,
)
from onebox.processes import ProcessId
from tests.onebox.node.builders import container, knative_containers, pod

NOW_S = 1000.0
NEW = ContainerRecord()
RUNNING = note_running(note_starting(NEW, launch="l", now_s=990.0, now_at="a"), ProcessId(1, 1))


def ended(exit_code: int, *, at_s: float = NOW_S, lost: bool = False) -> ContainerRecord:
    end = Ended(exit_code=exit_code, reason="Error", started_at="a", finished_at="b", lost=lost)
    return note_ended(RUNNING, end, now_s=at_s)


DONE, CRASHED = ended(0), ended(1)


def record(
    *, stop_deadline_s: float | None = None, failure: Waiting | None = None, **entries: ContainerRecord
) -> PodRecord:
    containers = {name.replace("_", "-"): entry for name, entry in entries.items()}
    base = PodRecord(namespace="default", name="pod", uid="u", started_at="a", started_s=900.0, containers=containers)
    return replace(base, stop_deadline_s=stop_deadline_s, failure=failure)


def decide(made: Pod, rec: PodRecord, *, now_s: float = NOW_S, **seen: Observed) -> Decision:
    return decide_pod(made, rec, {name.replace("_", "-"): value for name, value in seen.items()}, now_s)


def actions(made: Pod, rec: PodRecord, **seen: Observed) -> tuple[Action, ...]:
    return decide(made, rec, now_s=NOW_S, **seen).actions


INIT = pod(initContainers=[container("one"), container("two")])


@pytest.mark.parametrize(
    ("rec", "wanted"),
    [
        (record(), "one"),
        (record(one=DONE), "two"),
        (record(one=DONE, two=CRASHED), "two"),
        (record(one=DONE, two=DONE), "main"),
        (record(one=ended(137, lost=True)), "one"),
    ],
)
def test_init_containers_run_one_after_the_other_until_each_succeeds(rec: PodRecord, wanted: str) -> None:
    assert actions(INIT, rec) == (Launch(wanted),)


def test_nothing_else_starts_while_one_runs() -> None:
    assert decide(INIT, record(one=RUNNING)) == Decision()


def test_containers_start_together() -> None:
    assert actions(pod(container("a"), container("b")), record()) == (Launch("a"), Launch("b"))


def test_a_second_look_at_a_running_pod_does_nothing() -> None:
    assert decide(pod(), record(main=RUNNING)) == Decision()


def test_a_queue_proxy_inside_a_runtime_is_never_started() -> None:
    assert actions(pod(*knative_containers()), record()) == (Launch("kserve-container"),)


def test_a_queue_proxy_of_a_foreign_server_is_started_beside_it() -> None:
    assert actions(pod(*knative_containers(command=["serve"])), record()) == (
        Launch("kserve-container"),
        Launch("queue-proxy"),
    )


def test_a_crashed_container_waits_for_its_back_off() -> None:
    waiting = replace(CRASHED, retry_s=1010.0)
    assert decide(pod(), record(main=waiting)) == Decision((), wake_s=1010.0)
    assert decide(pod(), record(main=waiting), now_s=1010.0).actions == (Launch("main"),)


def test_a_container_that_cannot_be_started_is_tried_again_later() -> None:
    missing = note_not_started(NEW, Waiting(reason="ErrImagePull"), now_s=NOW_S)
    assert decide(pod(), record(main=missing)) == Decision((), wake_s=1001.0)


@pytest.mark.parametrize(
    ("policy", "entry", "again"),
    [
        ("Always", DONE, True),
        ("Always", CRASHED, True),
        ("OnFailure", DONE, False),
        ("OnFailure", CRASHED, True),
        ("Never", DONE, False),
        ("Never", CRASHED, False),
    ],
)
def test_the_restart_policy_decides(policy: str, entry: ContainerRecord, again: bool) -> None:
    made = pod(restartPolicy=policy)
    assert actions(made, record(main=entry)) == ((Launch("main"),) if again else ())
    assert is_finished(made, record(main=entry)) is not again


def test_a_failed_init_container_ends_a_pod_that_never_restarts() -> None:
    made = pod(initContainers=[container("one")], restartPolicy="Never")
    assert is_finished(made, record(one=CRASHED))
    assert actions(made, record(one=CRASHED)) == ()
    # Nobody saw this one fail: running it twice is what init containers must bear, failing the pod is not.
    assert actions(made, record(one=ended(137, lost=True))) == (Launch("one"),)


SIDECAR = pod(initContainers=[container("side", restartPolicy="Always")], restartPolicy="Never")


def test_a_sidecar_lets_the_next_one_start_once_it_has_started() -> None:
    assert actions(SIDECAR, record()) == (Launch("side"),)
    assert actions(SIDECAR, record(side=RUNNING), side=Observed(health=Health(started=False))) == ()
    assert actions(SIDECAR, record(side=RUNNING)) == (Launch("main"),)


def test_a_sidecar_ends_with_the_others() -> None:
    assert actions(SIDECAR, record(side=RUNNING, main=DONE)) == (Terminate("side", NOW_S + 5),)
    assert actions(SIDECAR, record(side=DONE, main=DONE)) == ()


@pytest.mark.parametrize("kind", [ProbeKind.LIVENESS, ProbeKind.STARTUP])
def test_a_failed_probe_ends_the_run_within_the_grace_period(kind: ProbeKind) -> None:
    sick = Observed(health=Health(failed=kind))
    assert actions(pod(), record(main=RUNNING), main=sick) == (Terminate("main", NOW_S + 5),)
    told = replace(sick, stop=StopStage.TERMINATED, deadline_s=NOW_S + 5)
    assert decide(pod(), record(main=RUNNING), main=told) == Decision((), wake_s=NOW_S + 5)
    assert decide(pod(), record(main=RUNNING), now_s=NOW_S + 5, main=told).actions == (Kill("main"),)


def test_a_probe_may_have_a_grace_period_of_its_own() -> None:
    probe = {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1}
    sick = Observed(health=Health(failed=ProbeKind.LIVENESS))
    assert actions(pod(container(livenessProbe=probe)), record(main=RUNNING), main=sick) == (
        Terminate("main", NOW_S + 1),
    )


def deleted(*containers: Any, grace_s: int = 30, **spec: Any) -> Pod:
    return pod(*containers, deletion_grace_s=grace_s, **spec)


STOPPING: dict[str, Any] = {"stop_deadline_s": NOW_S + 30}


def test_a_deletion_writes_down_its_deadline_first() -> None:
    assert actions(deleted(), record(main=RUNNING)) == (BeginStop(NOW_S + 30),)


def test_a_shorter_deletion_shortens_the_deadline_and_a_longer_one_does_not() -> None:
    assert actions(deleted(grace_s=1), record(main=RUNNING, **STOPPING)) == (BeginStop(NOW_S + 1),)
    assert actions(deleted(grace_s=60), record(main=RUNNING, **STOPPING)) == (Terminate("main", NOW_S + 30),)


def test_a_deleted_pod_starts_nothing_any_more() -> None:
    made = deleted(container("a"), container("b"))
    assert actions(made, record(a=RUNNING, **STOPPING)) == (Terminate("a", NOW_S + 30),)


def test_when_nothing_runs_any_more_the_pod_is_let_go() -> None:
    assert actions(deleted(), record(main=DONE, **STOPPING)) == (LetGo(),)
    assert actions(deleted(), record(**STOPPING)) == (LetGo(),)


def test_a_container_is_killed_when_its_time_is_up() -> None:
    told = Observed(stop=StopStage.TERMINATED, deadline_s=NOW_S + 30)
    rec = record(main=RUNNING, **STOPPING)
    assert decide(deleted(), rec, now_s=NOW_S + 29, main=told).actions == ()
    assert decide(deleted(), rec, now_s=NOW_S + 30, main=told).actions == (Kill("main"),)
    killed = replace(told, stop=StopStage.KILLED)
    assert decide(deleted(), rec, now_s=NOW_S + 40, main=killed).actions == ()


HOOK: dict[str, Any] = {"lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}}


def test_a_hook_runs_before_sigterm() -> None:
    made, rec = deleted(container(**HOOK)), record(main=RUNNING, **STOPPING)
    assert actions(made, rec) == (Drain("main", NOW_S + 30),)
    draining = Observed(stop=StopStage.DRAINING, deadline_s=NOW_S + 30)
    assert decide(made, rec, main=draining) == Decision((), wake_s=NOW_S + 30)
    assert actions(made, rec, main=replace(draining, stop=StopStage.DRAINED)) == (Terminate("main", NOW_S + 30),)


def test_a_hook_that_takes_all_the_time_leaves_two_seconds_for_sigterm() -> None:
    made, rec = deleted(container(**HOOK)), record(main=RUNNING, **STOPPING)
    late_s = NOW_S + 30
    draining = Observed(stop=StopStage.DRAINING, deadline_s=late_s)
    assert decide(made, rec, now_s=late_s, main=draining).actions == (Terminate("main", late_s + 2),)
    told = Observed(stop=StopStage.TERMINATED, deadline_s=late_s + 2)
    assert decide(made, rec, now_s=late_s + 1, main=told) == Decision((), wake_s=late_s + 2)
    assert decide(made, rec, now_s=late_s + 2, main=told).actions == (Kill("main"),)


def test_a_runtime_is_drained_when_its_pod_ends_but_not_when_it_is_sick() -> None:
    user, proxy = knative_containers()
    rec = record(kserve_container=RUNNING)
    assert actions(deleted(user, proxy), replace(rec, **STOPPING)) == (Drain("kserve-container", NOW_S + 30),)
    sick = Observed(health=Health(failed=ProbeKind.LIVENESS))
    assert actions(pod(user, proxy), rec, kserve_container=sick) == (Terminate("kserve-container", NOW_S + 5),)


def test_a_queue_proxy_ends_before_the_server_behind_it() -> None:
    made = deleted(*knative_containers(command=["serve"]))
    both = record(kserve_container=RUNNING, queue_proxy=RUNNING, **STOPPING)
    assert actions(made, both) == (Drain("queue-proxy", NOW_S + 30),)
    told = Observed(stop=StopStage.TERMINATED, deadline_s=NOW_S + 30)
    assert actions(made, both, queue_proxy=told) == ()
    server = record(kserve_container=RUNNING, queue_proxy=DONE, **STOPPING)
    assert actions(made, server) == (Terminate("kserve-container", NOW_S + 30),)


def test_when_the_time_is_up_all_are_killed_at_once() -> None:
    made = deleted(*knative_containers(command=["serve"]))
    both = record(kserve_container=RUNNING, queue_proxy=RUNNING, **STOPPING)
    told = Observed(stop=StopStage.TERMINATED, deadline_s=NOW_S + 30)
    found = decide(made, both, now_s=NOW_S + 30, queue_proxy=told).actions
    assert set(found) == {Kill("kserve-container"), Kill("queue-proxy")}


def test_sidecars_end_last_and_in_reverse_order() -> None:
    sides = [container("a", restartPolicy="Always"), container("b", restartPolicy="Always")]
    made = deleted(initContainers=sides)
    assert actions(made, record(a=RUNNING, b=RUNNING, main=RUNNING, **STOPPING)) == (Terminate("main", NOW_S + 30),)
    assert actions(made, record(a=RUNNING, b=RUNNING, main=DONE, **STOPPING)) == (Terminate("b", NOW_S + 30),)
    assert actions(made, record(a=RUNNING, b=DONE, main=DONE, **STOPPING)) == (Terminate("a", NOW_S + 30),)


def test_a_pod_that_is_active_too_long_fails_and_is_ended() -> None:
    made = pod(activeDeadlineSeconds=150)
    assert decide(made, record(main=RUNNING)) == Decision((), wake_s=1050.0)
    (fail,) = decide(made, record(main=RUNNING), now_s=1050.0).actions
    assert isinstance(fail, Fail)
    assert fail.failure.reason == "DeadlineExceeded"
    failed = record(main=RUNNING, failure=fail.failure)
    assert decide(made, failed, now_s=1050.0).actions == (Terminate("main", 1055.0),)
    assert decide(made, record(main=CRASHED, failure=fail.failure), now_s=1060.0) == Decision()


def test_what_is_finished_in_time_does_not_fail_later() -> None:
    made = pod(activeDeadlineSeconds=150, restartPolicy="Never")
    assert decide(made, record(main=DONE), now_s=2000.0) == Decision()


def test_a_start_that_was_interrupted_keeps_the_pod() -> None:
    starting = replace(RUNNING, stage=Stage.STARTING)
    assert actions(deleted(), record(main=starting, **STOPPING)) == ()
