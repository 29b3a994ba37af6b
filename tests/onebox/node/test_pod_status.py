"""The status that others see, in Kubernetes' words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.base.json import JsonObject
from onebox.node.decide import Observed, StopStage
from onebox.node.pod_status import QUIET_DELAY_S, build_status, write_delay_s
from onebox.node.probing import Health
from onebox.node.spec import Pod
from onebox.node.state import ContainerRecord, PodRecord, Waiting, note_not_started
from tests.onebox.node.builders import container, knative_containers, pod
from tests.onebox.node.test_decide import CRASHED, DONE, RUNNING, ended, record

AT = "2026-11-21T08:00:00Z"
LATER = "2026-11-21T08:00:09Z"


def status(
    made: Pod, rec: PodRecord, *, previous: JsonObject | None = None, now_at: str = AT, **seen: Observed
) -> JsonObject:
    observed = {name.replace("_", "-"): value for name, value in seen.items()}
    return build_status(made, rec, observed, previous=previous or {}, now_at=now_at)


def conditions(value: JsonObject) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item.get("reason", "")) for item in value["conditions"]}


def test_a_running_container_in_full() -> None:
    (found,) = status(pod(), record(main=RUNNING))["containerStatuses"]
    assert found == {
        "name": "main",
        "state": {"running": {"startedAt": "a"}},
        "lastState": {},
        "ready": True,
        "restartCount": 0,
        "image": "example.com/app:1",
        "imageID": "",
        "started": True,
        "containerID": "process://l",
    }


def test_a_ready_pod_in_full() -> None:
    value = status(pod(), record(main=RUNNING))
    assert (value["phase"], value["podIP"], value["hostIP"], value["startTime"]) == (
        "Running",
        "127.0.0.1",
        "127.0.0.1",
        "a",
    )
    assert conditions(value) == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), ("True", "")
    )
    assert all(item["lastTransitionTime"] == AT for item in value["conditions"])


def test_a_container_that_is_not_ready_is_named() -> None:
    value = status(
        pod(container("a"), container("b")), record(a=RUNNING, b=RUNNING), b=Observed(health=Health(ready=False))
    )
    assert value["phase"] == "Running"
    ready = next(item for item in value["conditions"] if item["type"] == "Ready")
    assert ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [b]"


def test_while_an_init_container_runs() -> None:
    value = status(pod(initContainers=[container("one"), container("two")]), record(one=RUNNING))
    assert value["phase"] == "Pending"
    assert conditions(value)["Initialized"] == ("False", "ContainersNotInitialized")
    initialized = next(item for item in value["conditions"] if item["type"] == "Initialized")
    assert initialized["message"] == "containers with incomplete status: [one two]"
    one, two = value["initContainerStatuses"]
    assert (one["ready"], one["started"], two["state"]) == (False, True, {"waiting": {"reason": "PodInitializing"}})
    assert value["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_an_init_container_that_is_done_is_ready() -> None:
    value = status(pod(initContainers=[container("one")]), record(one=DONE, main=RUNNING))
    (one,) = value["initContainerStatuses"]
    assert (one["ready"], one["started"]) == (True, False)
    assert one["state"]["terminated"] == {
        "exitCode": 0,
        "reason": "Error",
        "startedAt": "a",
        "finishedAt": "b",
    }


def test_nothing_started_yet() -> None:
    value = status(pod(), record())
    assert value["phase"] == "Pending"
    assert value["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_a_container_that_cannot_be_started_says_why() -> None:
    missing = note_not_started(ContainerRecord(), Waiting(reason="ErrImagePull", message="no command"), now_s=0.0)
    (found,) = status(pod(), record(main=missing))["containerStatuses"]
    assert found["state"] == {"waiting": {"reason": "ErrImagePull", "message": "no command"}}
    assert (found["restartCount"], found["ready"], found["started"]) == (0, False, False)


@pytest.mark.parametrize(("crashes", "wait"), [(2, "10s"), (5, "1m20s"), (9, "5m0s")])
def test_a_crash_loop_in_kubelets_words(crashes: int, wait: str) -> None:
    (found,) = status(pod(), record(main=replace(CRASHED, crashes=crashes, restarts=3)))["containerStatuses"]
    message = f"back-off {wait} restarting failed container=main pod=pod_default(uid-pod)"
    assert found["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
    assert found["lastState"]["terminated"]["exitCode"] == 1
    assert found["restartCount"] == 3


def test_the_run_before_is_the_last_state_of_the_one_that_runs() -> None:
    before = ended(3).ended
    (found,) = status(pod(), record(main=replace(RUNNING, previous=before)))["containerStatuses"]
    assert found["state"].keys() == {"running"}
    assert found["lastState"]["terminated"]["exitCode"] == 3


@pytest.mark.parametrize(
    ("policy", "entry", "phase", "ready"),
    [
        ("Never", DONE, "Succeeded", ("False", "PodCompleted")),
        ("OnFailure", DONE, "Succeeded", ("False", "PodCompleted")),
        ("Never", CRASHED, "Failed", ("False", "PodFailed")),
        ("OnFailure", CRASHED, "Running", ("False", "ContainersNotReady")),
        ("Always", DONE, "Running", ("False", "ContainersNotReady")),
    ],
)
def test_phases_of_what_has_ended(policy: str, entry: ContainerRecord, phase: str, ready: tuple[str, str]) -> None:
    value = status(pod(restartPolicy=policy), record(main=entry))
    assert value["phase"] == phase
    assert conditions(value)["Ready"] == conditions(value)["ContainersReady"] == ready


def test_a_failed_init_container_fails_a_pod_that_never_restarts() -> None:
    value = status(pod(initContainers=[container("one")], restartPolicy="Never"), record(one=CRASHED))
    assert value["phase"] == "Failed"


def test_a_pod_that_the_node_gave_up_says_why() -> None:
    value = status(pod(), record(main=CRASHED, failure=Waiting(reason="DeadlineExceeded", message="too long")))
    assert (value["phase"], value["reason"], value["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_a_queue_proxy_inside_mirrors_the_runtime_but_has_its_own_readiness() -> None:
    made = pod(*knative_containers())
    rec = record(kserve_container=replace(RUNNING, restarts=2))
    waiting = status(made, rec, queue_proxy=Observed(health=Health(ready=False)))
    user, proxy = waiting["containerStatuses"]
    assert (user["ready"], proxy["ready"]) == (True, False)
    assert proxy["state"] == user["state"]
    assert proxy["restartCount"] == 2
    assert conditions(waiting)["Ready"] == ("False", "ContainersNotReady")
    assert conditions(status(made, rec, queue_proxy=Observed()))["Ready"] == ("True", "")


def test_a_container_with_a_probe_that_nobody_has_asked_yet_is_not_ready() -> None:
    made = pod(*knative_containers())
    value = status(made, record(kserve_container=RUNNING))
    assert [item["ready"] for item in value["containerStatuses"]] == [True, False]
    assert conditions(value)["Ready"] == ("False", "ContainersNotReady")


def test_a_container_that_is_being_stopped_is_not_ready() -> None:
    value = status(pod(), record(main=RUNNING), main=Observed(stop=StopStage.TERMINATED))
    assert conditions(value)["Ready"][0] == "False"


def test_a_condition_keeps_its_time_while_it_stays() -> None:
    before = status(pod(), record(main=RUNNING), main=Observed(health=Health(ready=False)))
    after = status(pod(), record(main=RUNNING), previous=before, now_at=LATER)
    times = {item["type"]: item["lastTransitionTime"] for item in after["conditions"]}
    assert times["Ready"] == times["ContainersReady"] == LATER
    assert times["Initialized"] == times["PodScheduled"] == AT


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict[str, Any], quality: str) -> None:
    assert status(pod(container(resources=resources)), record(main=RUNNING))["qosClass"] == quality


MADE = pod(initContainers=[container("one")])
LOADING = status(MADE, record(one=RUNNING))
LOADED = status(MADE, record(one=DONE, main=RUNNING), main=Observed(health=Health(ready=False)))
READY = status(MADE, record(one=DONE, main=RUNNING))
BROKEN = status(MADE, record(one=DONE, main=replace(CRASHED, crashes=3)))


@pytest.mark.parametrize(
    ("old", "new", "delay_s"),
    [
        (READY, READY, None),
        ({**READY, "observedGeneration": 1}, READY, None),
        ({}, LOADING, 0.0),
        (LOADING, LOADED, QUIET_DELAY_S),
        (LOADED, READY, 0.0),
        (READY, LOADED, 0.0),
        (LOADED, BROKEN, 0.0),
        (BROKEN, LOADED, 0.0),
    ],
    ids=["same", "more", "first", "loaded", "ready", "unready", "broken", "repaired"],
)
def test_news_is_written_at_once_and_steps_on_the_way_to_it_may_wait(
    old: JsonObject, new: JsonObject, delay_s: float | None
) -> None:
    assert write_delay_s(old, new) == delay_s


def test_a_null_is_no_difference() -> None:
    stored = {**READY, "conditions": [{k: v for k, v in c.items() if v is not None} for c in READY["conditions"]]}
    assert write_delay_s(stored, READY) is None
