"""What is said about the model, from what its pods say."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.core import Pod
from controller.api.inferenceservice import FailureInfo, ModelCopies, ModelStates, ModelStatus
from controller.api.knative import Service
from controller.base.errors import UserError
from controller.inferenceservice.model_status import observe_model, refuse_model
from tests.controller.inferenceservice.builders import URI, container_status, knative_service, pod

WAITING = knative_service(ready="Unknown")
INIT = "storage-initializer"
RUNNING = {"running": {}}


def ended(code: int = 1, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


def crash_loop() -> dict[str, Any]:
    return {"waiting": {"reason": "CrashLoopBackOff"}}


def observe(*pods: Pod, live: Service | None = WAITING, before: ModelStatus | None = None) -> ModelStatus:
    return observe_model(before or ModelStatus(), live, pods=pods, uris=[URI])


def verdict(status: ModelStatus) -> tuple[str, str, str]:
    assert status.states is not None
    return status.states.activeModelState, status.states.targetModelState, status.transitionStatus


def failure(status: ModelStatus) -> FailureInfo:
    assert verdict(status)[1:] == ("FailedToLoad", "BlockedByFailedLoad")
    assert status.lastFailureInfo is not None
    return status.lastFailureInfo


LOADED = ModelStatus(
    transitionStatus="UpToDate",
    states=ModelStates(activeModelState="Loaded", targetModelState="Loaded"),
    copies=ModelCopies(failedCopies=0, totalCopies=1),
)


def test_before_there_is_a_pod_the_model_is_pending() -> None:
    assert verdict(observe(live=None)) == ("", "Pending", "InProgress")
    assert verdict(observe()) == ("", "Pending", "InProgress")


def test_a_revision_that_cannot_have_pods_has_failed() -> None:
    assert verdict(observe(live=knative_service(ready="False"))) == ("", "FailedToLoad", "BlockedByFailedLoad")


def test_a_running_initializer_is_loading() -> None:
    assert verdict(observe(pod(init=[container_status(INIT)]))) == ("", "Loading", "InProgress")


def test_a_server_that_is_not_ready_yet_is_pending() -> None:
    done = container_status(INIT, state=ended(0, reason="Completed"), ready=True)
    assert verdict(observe(pod(container_status(), init=[done]))) == ("", "Pending", "InProgress")


def test_a_ready_service_has_its_model_loaded() -> None:
    status = observe(pod(container_status(ready=True), ready=True), live=knative_service())
    assert verdict(status) == ("Loaded", "Loaded", "UpToDate")
    assert status.copies == ModelCopies(failedCopies=0, totalCopies=1)


def test_a_service_scaled_to_zero_keeps_its_model() -> None:
    status = observe(live=knative_service(), before=LOADED)
    assert verdict(status) == ("Loaded", "Loaded", "UpToDate")
    assert status.copies == ModelCopies(failedCopies=0)


@pytest.mark.parametrize(
    ("state", "last"), [(ended(1, f"cannot fetch {URI}"), {}), (crash_loop(), ended(1, f"cannot fetch {URI}"))]
)
def test_a_failed_initializer_gives_its_last_words(state: dict[str, Any], last: dict[str, Any]) -> None:
    info = failure(observe(pod(init=[container_status(INIT, state=state, last=last)])))
    assert (info.reason, info.message, info.exitCode) == ("ModelLoadFailed", f"cannot fetch {URI}", 1)


def test_a_failure_to_fetch_names_the_uri_even_if_the_initializer_does_not() -> None:
    info = failure(observe(pod(init=[container_status(INIT, state=ended(1, "No such file"))])))
    assert info.message == f"{URI}: No such file"


def test_a_server_that_crashes_gives_its_last_words() -> None:
    info = failure(observe(pod(container_status(state=crash_loop(), last=ended(3, "KeyError: 'x'")))))
    assert (info.message, info.exitCode) == ("KeyError: 'x'", 3)


def test_a_container_that_says_nothing_is_named() -> None:
    assert "kserve-container ended with exit code 7" in failure(observe(pod(container_status(state=ended(7))))).message
    killed = ended(137, reason="OOMKilled")
    assert "more memory than its limit" in failure(observe(pod(container_status(state=killed)))).message


def test_an_image_that_cannot_be_had_is_a_failure_of_the_runtime() -> None:
    state = {"waiting": {"reason": "ErrImagePull", "message": "no command is known for image x"}}
    info = failure(observe(pod(container_status(state=state))))
    assert (info.reason, info.message) == ("RuntimeUnhealthy", "no command is known for image x")


def test_a_retry_changes_nothing_until_it_says_something_new() -> None:
    broken = observe(pod(init=[container_status(INIT, state=ended(1, "gone"))]))
    again = pod(init=[container_status(INIT, state=RUNNING, last=ended(1, "gone"))])
    assert observe(again, before=broken).lastFailureInfo == broken.lastFailureInfo
    assert verdict(observe(again, before=broken)) == verdict(broken)
    restarted = pod(container_status(state=RUNNING, last=ended(1, "boom")))
    assert verdict(observe(restarted, before=broken)) == verdict(broken)


def test_a_failure_that_was_only_seen_during_the_retry_is_told() -> None:
    loading = observe(pod(init=[container_status(INIT)]))
    again = pod(init=[container_status(INIT, state=RUNNING, last=ended(1, "gone"))])
    assert failure(observe(again, before=loading)).message == f"{URI}: gone"
    killed = pod(init=[container_status(INIT, state=RUNNING, last=ended(137))])
    assert verdict(observe(killed, before=loading)) == verdict(loading)


def test_the_sidecar_is_not_the_model() -> None:
    assert verdict(observe(pod(container_status("queue-proxy", state=ended(1)), container_status()))) == (
        "",
        "Pending",
        "InProgress",
    )


def test_a_canary_that_fails_leaves_the_active_model_loaded() -> None:
    live = knative_service(ready="Unknown", created="iris-predictor-00002", latest_ready="iris-predictor-00001")
    crashed = pod(container_status(state=ended(1, "boom")), revision="iris-predictor-00002")
    old = pod(container_status(ready=True), ready=True)
    assert verdict(observe(old, crashed, live=live, before=LOADED)) == ("Loaded", "FailedToLoad", "BlockedByFailedLoad")


def test_a_pod_without_container_statuses_says_nothing_new() -> None:
    live = knative_service(ready="Unknown", created="iris-predictor-00002", latest_ready="iris-predictor-00001")
    status = observe(pod(revision="iris-predictor-00002"), live=live, before=LOADED)
    assert verdict(status) == ("Loaded", "Loaded", "UpToDate")
    assert status.copies == ModelCopies(failedCopies=0)


def test_the_newest_pod_speaks() -> None:
    old = pod(container_status(state=ended(1, "old")), created="2026-01-01T00:00:00Z")
    new = pod(container_status(), created="2026-01-02T00:00:00Z")
    assert verdict(observe(old, new))[1] == "Pending"


def test_a_pod_on_its_way_out_does_not_count() -> None:
    leaving = pod(container_status(state=ended(1, "old")), deletionTimestamp="2026-01-02T00:00:00Z")
    assert verdict(observe(leaving))[1] == "Pending"


GIVEN_UP = knative_service(
    ready="False", created="iris-predictor-00002", latest_ready="iris-predictor-00001", reason="RevisionFailed",
    message='Revision "iris-predictor-00002" failed with message: the deployment has timed out progressing.',
)  # fmt: skip


def test_a_server_that_is_never_ready_fails_when_knative_gives_it_up_and_is_told_what_to_do() -> None:
    deaf = pod(container_status("queue-proxy"), container_status(), revision="iris-predictor-00002")
    waiting = knative_service(ready="Unknown", created="iris-predictor-00002", latest_ready="iris-predictor-00001")
    assert verdict(observe(deaf, live=waiting, before=LOADED)) == ("Loaded", "Pending", "InProgress")
    info = failure(observe(deaf, live=GIVEN_UP, before=LOADED))
    assert (info.reason, info.exitCode, info.modelRevisionName) == ("RuntimeUnhealthy", None, "iris-predictor-00002")
    said = ("iris-predictor-00002 does not become ready", "timed out progressing", "readiness probe does not succeed")
    to_do = (f"kubectl logs -n ns {deaf.metadata.name} -c kserve-container", "serving.knative.dev/progress-deadline")
    assert all(word in info.message for word in (*said, *to_do))
    # Knative takes its pods away; what was said of them stays.
    assert failure(observe(live=GIVEN_UP, before=observe(deaf, live=GIVEN_UP, before=LOADED))) == info


def test_a_revision_without_pods_that_was_given_up_is_told_as_well() -> None:
    info = failure(observe(live=GIVEN_UP))
    assert (info.reason, info.modelRevisionName) == ("RuntimeUnhealthy", "iris-predictor-00002")
    assert "kubectl describe revision -n ns iris-predictor-00002" in info.message
    assert "readinessProbe" in info.message
    failed = GIVEN_UP.to_json()
    for item in failed["status"]["conditions"]:
        item["message"] = "Container failed with: boom"
    assert "readinessProbe" not in failure(observe(live=Service.parse(failed))).message


def test_what_a_container_said_counts_for_more_than_that_it_was_given_up() -> None:
    crashed = pod(container_status(state=ended(3, "boom")), revision="iris-predictor-00002")
    before = observe(crashed, live=GIVEN_UP)
    assert failure(before).message == failure(observe(live=GIVEN_UP, before=before)).message == "boom"


def test_a_failure_of_an_older_revision_is_forgotten() -> None:
    before = observe(pod(container_status(state=ended(1, "boom"))))
    assert failure(before).modelRevisionName == "iris-predictor-00001"
    newer = knative_service(ready="Unknown", created="iris-predictor-00002")
    assert observe(live=newer, before=before).lastFailureInfo is None


def test_a_revision_that_is_ready_is_not_blamed_for_one_that_could_not_be_made() -> None:
    refused = knative_service(ready="False", latest_ready="iris-predictor-00001", reason="RevisionFailed")
    assert observe(live=refused).lastFailureInfo is None


def test_a_failure_is_forgotten_once_the_model_is_loaded() -> None:
    broken = observe(pod(container_status(state=ended(1, "boom"))))
    assert observe(pod(container_status()), before=broken).lastFailureInfo == broken.lastFailureInfo
    assert observe(live=knative_service(), before=broken).lastFailureInfo is None


def test_what_was_wrong_with_an_older_spec_is_forgotten_at_once() -> None:
    refused = refuse_model(ModelStatus(), UserError("NoSupportingRuntime", "none"))
    status = observe(pod(), before=refused)
    assert (verdict(status), status.lastFailureInfo) == (("", "Pending", "InProgress"), None)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("NoSupportingRuntime", "NoSupportingRuntime"),
        ("RuntimeDisabled", "RuntimeDisabled"),
        ("RuntimeNotRecognized", "RuntimeNotRecognized"),
        ("InvalidStorage", "InvalidPredictorSpec"),
    ],
)
def test_a_spec_that_cannot_work_blocks_the_model(reason: str, shown: str) -> None:
    status = refuse_model(LOADED, UserError(reason, "why"))
    assert verdict(status) == ("Loaded", "FailedToLoad", "InvalidSpec")
    assert status.lastFailureInfo == FailureInfo(reason=shown, message="why")


def test_what_is_not_the_models_fault_leaves_its_status() -> None:
    assert refuse_model(LOADED, UserError("ReconcileFailed", "webhook says no")) == LOADED
    assert refuse_model(ModelStatus(), UserError("InvalidConfig", "x")).to_json() == {"transitionStatus": ""}
