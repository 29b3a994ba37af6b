"""What becomes of a revision, from its Deployment, its pods and the autoscaler."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.core import Deployment, Pod
from controller.api.knative import Revision
from onebox.knative.autoscaler.report import Activity, ScaleReport
from onebox.knative.revision.status import Workload, build_revision_status
from tests.onebox.knative.building import NOW_S, meta, revision
from tests.onebox.knative.comparing import conditions

FRESH = revision("svc-1", ready="")


def deployment(*, replicas: int = 1, owner: str = "Revision/svc-1", **found: str) -> Deployment:
    """`found`: reasons of conditions by type; Progressing is True unless it has a reason."""
    listed = [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]
    if "Progressing" in found:
        listed = [{"type": "Progressing", "status": "False", "reason": found["Progressing"]}]
    if "ReplicaFailure" in found:
        listed.append({"type": "ReplicaFailure", "status": "True", "reason": found["ReplicaFailure"], "message": "no"})
    return Deployment.parse(
        {"metadata": meta("d", owner=owner), "spec": {"replicas": replicas}, "status": {"conditions": listed}}
    )


def pod(name: str = "p", *, ready: str = "False", **fields: Any) -> Pod:
    return Pod.parse(
        {
            "metadata": {"name": name, "creationTimestamp": "2026-11-20T12:00:00Z"},
            "status": {"conditions": [{"type": "Ready", "status": ready}], **fields},
        }
    )


def container(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, **fields}


def ended(code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def status(
    *pods: Pod,
    found: Deployment | None = None,
    report: ScaleReport | None = None,
    before: Revision = FRESH,
    **flags: bool,
) -> dict[str, Any]:
    workload = Workload(deployment=found or deployment(), pods=pods, report=report)
    return build_revision_status(before, workload, now_s=NOW_S, **flags)


def told(found: dict[str, Any], type_: str) -> tuple[str, str, str]:
    return conditions(found)[type_][:3]


RUNNING = ScaleReport(want=1, activity=Activity.ACTIVE, initialized=True, ready=1)


def test_deploying_until_the_initial_scale_is_reached() -> None:
    found = status(pod(ready="True"), report=ScaleReport(activity=Activity.ACTIVATING, reason="Queued"))
    assert told(found, "Ready") == ("Unknown", "Deploying", "")
    assert told(found, "ContainerHealthy")[0] == "True"


def test_ready_when_the_initial_scale_was_reached() -> None:
    found = status(pod(ready="True"), report=RUNNING)
    assert told(found, "Ready")[0] == "True"
    assert (found["actualReplicas"], found["desiredReplicas"]) == (1, 1)


def test_still_ready_without_pods() -> None:
    idle = ScaleReport(want=0, activity=Activity.INACTIVE, reason="NoTraffic", initialized=True)
    found = status(found=deployment(replicas=0), report=idle)
    assert told(found, "Ready")[0] == "True"
    assert told(found, "Active")[:2] == ("False", "NoTraffic")
    assert found["actualReplicas"] == 0


def test_an_exit_code_is_the_reason() -> None:
    crashed = pod(
        containerStatuses=[
            container("user-container", lastState=ended(3, "no model"), state=waiting("CrashLoopBackOff"))
        ]
    )
    found = status(crashed)
    assert told(found, "ContainerHealthy") == ("False", "ExitCode3", "Container failed with: no model")
    assert told(found, "Ready")[:2] == ("False", "ExitCode3")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "container exited with no error"),
        (1, "container exited with code 1"),
        (137, "container was ended by signal 9 (SIGKILL)"),
        (139, "container was ended by signal 11 (SIGSEGV)"),
        (255, "container exited with code 255"),
    ],
)
def test_a_container_that_ends_without_a_word_still_has_a_message(code: int, words: str) -> None:
    found = status(pod(containerStatuses=[container("user-container", lastState=ended(code))]))
    assert told(found, "ContainerHealthy")[1:] == (f"ExitCode{code}", f"Container failed with: {words}")


def test_an_init_container_that_fails_is_told_at_once() -> None:
    failing = pod(
        initContainerStatuses=[container("storage-initializer", lastState=ended(1, "no such file"))],
        containerStatuses=[container("user-container", state=waiting("PodInitializing"))],
    )
    assert told(status(failing), "Ready") == ("False", "ExitCode1", "Container failed with: no such file")


def test_an_init_container_that_worked_in_the_end_is_no_failure() -> None:
    worked = pod(initContainerStatuses=[container("init", state=ended(0), lastState=ended(1, "not yet"))])
    assert told(status(worked), "ContainerHealthy")[0] == "Unknown"


def test_the_queue_proxys_end_is_not_the_users() -> None:
    found = status(pod(containerStatuses=[container("queue-proxy", lastState=ended(1, "x"))]))
    assert told(found, "ContainerHealthy")[0] == "Unknown"


def test_an_image_that_cannot_be_had_is_told_at_once() -> None:
    found = status(pod(containerStatuses=[container("user-container", state=waiting("ErrImagePull", "map it so"))]))
    assert told(found, "ResourcesAvailable") == ("False", "ErrImagePull", "map it so")


def test_other_waits_are_told_when_the_deadline_has_passed() -> None:
    stuck = pod(containerStatuses=[container("user-container", state=waiting("ContainerCreating", "slow"))])
    assert told(status(stuck), "ResourcesAvailable")[0] == "Unknown"
    late = deployment(Progressing="ProgressDeadlineExceeded")
    assert told(status(stuck, found=late), "ResourcesAvailable") == ("False", "ContainerCreating", "slow")


@pytest.mark.parametrize("reasons", [{"Progressing": "ProgressDeadlineExceeded"}, {"ReplicaFailure": "FailedCreate"}])
def test_a_failing_deployment_is_a_failing_revision(reasons: dict[str, Any]) -> None:
    found = status(found=deployment(**reasons))
    assert told(found, "Ready")[:2] == ("False", next(iter(reasons.values())))


def test_a_pod_without_a_node_is_a_failure_unless_that_is_allowed() -> None:
    nowhere = pod(
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}]
    )
    assert told(status(nowhere), "ResourcesAvailable") == ("False", "Unschedulable", "full")
    assert told(status(nowhere, schedulable=True), "ResourcesAvailable")[0] == "Unknown"


def test_giving_up_before_the_initial_scale_is_a_failure() -> None:
    gone = ScaleReport(want=0, activity=Activity.INACTIVE, reason="TimedOut", initialized=False)
    found = status(found=deployment(replicas=0), report=gone)
    assert told(found, "ResourcesAvailable") == (
        "False",
        "ProgressDeadlineExceeded",
        "Initial scale was never achieved",
    )


def test_a_failure_is_over_when_a_pod_is_ready() -> None:
    crashed = pod(containerStatuses=[container("user-container", lastState=ended(1, "x"))])
    broken = FRESH.replace(status=FRESH.status.parse(status(crashed)))
    assert told(status(pod(ready="True"), report=RUNNING, before=broken), "Ready")[0] == "True"


def test_terminating_pods_do_not_count() -> None:
    leaving = pod(ready="True")
    leaving = leaving.replace(metadata=leaving.metadata.replace(deletionTimestamp="2026-11-20T12:00:00Z"))
    assert status(leaving)["actualReplicas"] == 0


def test_a_restarted_autoscaler_takes_no_wish_back() -> None:
    before = FRESH.replace(status=FRESH.status.parse({"desiredReplicas": 3}))
    assert status(before=before, report=ScaleReport())["desiredReplicas"] == 3


def test_somebody_elses_deployment_is_told() -> None:
    found = status(found=deployment(owner="Revision/other"))
    message = 'There is an existing Deployment "svc-1-deployment" that we do not own.'
    assert told(found, "ResourcesAvailable") == ("False", "NotOwned", message)
