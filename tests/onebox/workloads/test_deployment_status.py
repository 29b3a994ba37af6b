from __future__ import annotations

from typing import Any

from controller.api.core import Deployment, DeploymentStatus
from controller.base.clock import parse_rfc3339, rfc3339
from controller.base.json import JsonObject
from onebox.workloads.deployment_status import Observed, build_deployment_status, progress_deadline_s
from onebox.workloads.deployments import is_news
from onebox.workloads.pods import Replica
from onebox.workloads.rollout import limits_of
from tests.onebox.workloads.objects import deployment, replica

NOW_S = parse_rfc3339("2026-01-01T00:00:00Z")


def observe(
    subject: Deployment, *replicas: Replica, at_s: float = NOW_S, hash_: str = "new", failure: str = ""
) -> JsonObject:
    return build_deployment_status(
        Observed(
            deployment=subject,
            limits=limits_of(subject),
            replicas=replicas,
            template_hash=hash_,
            failure=failure,
            now_s=at_s,
        )
    )


def after(subject: Deployment, status: JsonObject) -> Deployment:
    return subject.replace(status=DeploymentStatus.parse(status))


def conditions(status: JsonObject) -> dict[str, tuple[str, str]]:
    return {condition["type"]: (condition["status"], condition["reason"]) for condition in status["conditions"]}


def condition(status: JsonObject, type_: str) -> dict[str, Any]:
    return next(found for found in status["conditions"] if found["type"] == type_)


def test_a_new_deployment_progresses_and_is_not_available() -> None:
    status = observe(deployment(2, generation=3), replica("a", ready=False))
    assert status["observedGeneration"] == 3
    assert (status["replicas"], status["updatedReplicas"], status["unavailableReplicas"]) == (1, 1, 2)
    assert "readyReplicas" not in status
    assert conditions(status) == {
        "Available": ("False", "MinimumReplicasUnavailable"),
        "Progressing": ("True", "ReplicaSetUpdated"),
    }


def test_all_pods_up_completes_the_rollout() -> None:
    subject = deployment(2)
    status = observe(subject, replica("a"), replica("b"))
    assert (status["readyReplicas"], status["availableReplicas"]) == (2, 2)
    assert conditions(status) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    assert observe(after(subject, status), replica("a"), replica("b"), at_s=NOW_S + 99) == status


def test_a_complete_rollout_stays_complete_while_pods_come_and_go() -> None:
    subject = after(deployment(1), observe(deployment(1), replica("a")))
    status = observe(subject, replica("a", ready=False), at_s=NOW_S + 10_000)
    assert conditions(status)["Progressing"] == ("True", "NewReplicaSetAvailable")
    assert conditions(status)["Available"] == ("False", "MinimumReplicasUnavailable")


def test_zero_replicas_are_available_and_complete() -> None:
    status = observe(deployment(0))
    assert conditions(status)["Available"][0] == "True"
    assert conditions(status)["Progressing"] == ("True", "NewReplicaSetAvailable")
    assert "replicas" not in status


def test_a_rollout_that_stands_still_fails_at_its_deadline_and_recovers() -> None:
    subject = deployment(1, progressDeadlineSeconds=60)
    status = observe(subject, replica("a", ready=False))
    subject = after(subject, status)
    assert progress_deadline_s(subject.status, subject) == NOW_S + 60
    assert observe(subject, replica("a", ready=False), at_s=NOW_S + 59) == status
    failed = observe(subject, replica("a", ready=False), at_s=NOW_S + 60)
    assert conditions(failed)["Progressing"] == ("False", "ProgressDeadlineExceeded")
    assert "web-new" in condition(failed, "Progressing")["message"]
    subject = after(subject, failed)
    assert progress_deadline_s(subject.status, subject) is None
    assert observe(subject, replica("a", ready=False), at_s=NOW_S + 600) == failed
    recovered = observe(subject, replica("a"), at_s=NOW_S + 700)
    assert conditions(recovered)["Progressing"] == ("True", "NewReplicaSetAvailable")


def test_each_pod_that_comes_up_moves_the_deadline() -> None:
    subject = deployment(2)
    subject = after(subject, observe(subject, replica("a", ready=False), replica("b", ready=False)))
    moved = observe(subject, replica("a"), replica("b", ready=False), at_s=NOW_S + 30)
    found = condition(moved, "Progressing")
    assert (found["lastTransitionTime"], found["lastUpdateTime"]) == (rfc3339(NOW_S), rfc3339(NOW_S + 30))


def test_a_new_template_begins_a_new_rollout() -> None:
    subject = after(deployment(1), observe(deployment(1), replica("a", "one"), hash_="one"))
    status = observe(subject, replica("a", "one"), replica("b", "two", ready=False), hash_="two", at_s=NOW_S + 5)
    assert conditions(status)["Progressing"] == ("True", "ReplicaSetUpdated")
    assert (status["replicas"], status["updatedReplicas"], status["unavailableReplicas"]) == (2, 1, 1)
    assert conditions(status)["Available"][0] == "True"


def test_a_refused_pod_is_a_condition_that_says_why() -> None:
    status = observe(deployment(1), failure="quota exceeded")
    found = condition(status, "ReplicaFailure")
    assert (found["status"], found["reason"], found["message"]) == ("True", "FailedCreate", "quota exceeded")
    assert "ReplicaFailure" not in conditions(observe(after(deployment(1), status)))


def test_a_paused_deployment_says_so() -> None:
    assert conditions(observe(deployment(1, paused=True)))["Progressing"] == ("Unknown", "DeploymentPaused")


def test_what_somebody_may_wait_for_is_news_and_the_rest_can_wait() -> None:
    subject = deployment(2)
    starting = observe(subject, replica("a", ready=False))
    assert not is_news({}, starting)
    assert is_news(starting, observe(after(subject, starting), replica("a")))
    assert is_news({}, observe(subject, failure="no"))
    assert not is_news(observe(subject, replica("a"), replica("b")), observe(subject, replica("a")))
    late = observe(after(subject, starting), replica("a", ready=False), at_s=NOW_S + 10_000)
    assert is_news(starting, late)
