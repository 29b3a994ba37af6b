"""The status of a revision from what its Deployment, its pods and the autoscaler say (pure).

Two things make a revision Ready: its resources are there (ResourcesAvailable) and its container lives (ContainerHealthy).
Active says whether it takes requests now; a revision that was scaled to zero is Ready and not Active.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

from controller.api.core import ContainerStateTerminated, Deployment, DeploymentStatus, Pod
from controller.api.core import ContainerStatus as PodContainerStatus
from controller.api.knative import Revision
from controller.base.json import JsonObject
from onebox.knative.autoscaler.report import SCALE_UNKNOWN, Activity, ScaleReport
from onebox.knative.conditions import FALSE, READY, TRUE, LivingConditions
from onebox.knative.names import QUEUE_CONTAINER, deployment_name

RESOURCES_AVAILABLE, CONTAINER_HEALTHY, ACTIVE = "ResourcesAvailable", "ContainerHealthy", "Active"
_DEPLOYING = "Deploying"
_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
_SIGNALLED = 128
"""A container that a signal ended has this and the signal's number as its exit code."""
_HOPELESS_WAITS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""Reasons to wait that time does not mend. Knative finds these when it resolves the image's digest, before any pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What runs for a revision."""

    deployment: Deployment | None
    pods: tuple[Pod, ...] = ()
    report: ScaleReport | None = None
    """None: the autoscaler has not looked at the revision yet."""

    @property
    def replicas(self) -> int:
        """The pods that there should be."""
        if self.deployment is None:
            return 0
        return 1 if self.deployment.spec.replicas is None else self.deployment.spec.replicas

    @property
    def ready(self) -> int:
        return sum(pod.is_ready for pod in self.pods)


def build_revision_status(
    revision: Revision, workload: Workload, *, schedulable: bool = False, now_s: float
) -> JsonObject:
    """The whole status; `schedulable`: a pod without a node is no failure (pod-is-always-schedulable)."""
    conditions = _conditions(revision, now_s)
    owned = workload.deployment is None or _is_owned(workload.deployment, revision)
    if not owned:
        name = deployment_name(revision.metadata.name)
        message = f'There is an existing Deployment "{name}" that we do not own.'
        conditions.mark_false(RESOURCES_AVAILABLE, "NotOwned", message)
    elif workload.deployment is not None:
        _mark_deployment(conditions, workload.deployment.status)
        _mark_pods(conditions, workload, schedulable=schedulable)
        _mark_scale(conditions, workload.report)
    status: JsonObject = {
        "observedGeneration": revision.metadata.generation,
        "conditions": [condition.to_json() for condition in conditions.result()],
        "actualReplicas": workload.ready,
        "containerStatuses": [{"name": container.name} for container in revision.spec.containers],
    }
    if revision.spec.initContainers:
        status["initContainerStatuses"] = [{"name": container.name} for container in revision.spec.initContainers]
    desired = workload.report.want if workload.report else SCALE_UNKNOWN
    if desired == SCALE_UNKNOWN and revision.status.desiredReplicas is not None:
        desired = revision.status.desiredReplicas  # A restarted autoscaler takes nothing back.
    if desired != SCALE_UNKNOWN:
        status["desiredReplicas"] = desired
    return status


def build_refused_status(revision: Revision, message: str, *, now_s: float) -> JsonObject:
    """The status of a revision one of whose children the API server refused."""
    conditions = _conditions(revision, now_s)
    conditions.mark_false(RESOURCES_AVAILABLE, "CreationFailed", message)
    found = [condition.to_json() for condition in conditions.result()]
    return {**revision.status.to_json(), "observedGeneration": revision.metadata.generation, "conditions": found}


def _conditions(revision: Revision, now_s: float) -> LivingConditions:
    dependents = (RESOURCES_AVAILABLE, CONTAINER_HEALTHY)
    current = revision.status.conditions
    conditions = LivingConditions(dependents, current, now_s=now_s)
    if not current:
        conditions.mark_unknown(ACTIVE, _DEPLOYING)
        for dependent in dependents:
            conditions.mark_unknown(dependent, _DEPLOYING)
    return conditions


def _is_owned(deployment: Deployment, revision: Revision) -> bool:
    return any(owner.controller and owner.uid == revision.metadata.uid for owner in deployment.metadata.ownerReferences)


def _mark_deployment(conditions: LivingConditions, status: DeploymentStatus) -> None:
    failure, progress = status.condition("ReplicaFailure"), status.condition("Progressing")
    if failure is not None and failure.status == TRUE:
        conditions.mark_false(RESOURCES_AVAILABLE, failure.reason or "", failure.message or "")
    elif progress is None:
        conditions.mark_unknown(RESOURCES_AVAILABLE, _DEPLOYING)
    else:
        conditions.mark(RESOURCES_AVAILABLE, progress.status, progress.reason or "", progress.message or "")
        if progress.status == TRUE:
            conditions.mark_true(RESOURCES_AVAILABLE)  # Why a Deployment progresses is no news about the revision.


def _mark_pods(conditions: LivingConditions, workload: Workload, *, schedulable: bool) -> None:
    if workload.ready > 0:
        conditions.mark_true(CONTAINER_HEALTHY)
        return
    if workload.replicas == 0:
        return
    timed_out = _has_timed_out(workload.deployment)
    for pod in sorted(workload.pods, key=lambda pod: (pod.metadata.creationTimestamp or "", pod.metadata.name)):
        if pod.metadata.deletionTimestamp is None and _mark_pod(conditions, pod, timed_out, schedulable):
            return  # One pod is enough: they all run the same.


def _has_timed_out(deployment: Deployment | None) -> bool:
    progress = deployment.status.condition("Progressing") if deployment else None
    return progress is not None and progress.status == FALSE and progress.reason == _DEADLINE_EXCEEDED


def _mark_pod(conditions: LivingConditions, pod: Pod, timed_out: bool, schedulable: bool) -> bool:
    """Whether the pod had something to tell."""
    scheduled = pod.status.condition("PodScheduled")
    if scheduled is not None and scheduled.status == FALSE and not schedulable:
        conditions.mark_false(RESOURCES_AVAILABLE, scheduled.reason or "", scheduled.message or "")
        return True
    for container in _user_containers(pod):
        terminated = _failure(container)
        if terminated is not None:
            reason, message = terminated
            conditions.mark_false(CONTAINER_HEALTHY, reason, f"Container failed with: {message}")
            return True
        waiting = container.state.waiting
        if waiting is not None and waiting.reason and (timed_out or waiting.reason in _HOPELESS_WAITS):
            conditions.mark_false(RESOURCES_AVAILABLE, waiting.reason, waiting.message)
            return True
    return False


def _user_containers(pod: Pod) -> Iterator[PodContainerStatus]:
    # Init containers first, since the others wait for them. (Knative looks at none of them, and so lets a revision whose
    # model cannot be fetched look busy until its progress deadline.)
    for status in pod.status.initContainerStatuses:
        ended = _last_end(status)
        if ended is None or ended.exitCode != 0:
            yield status
    yield from (status for status in pod.status.containerStatuses if status.name != QUEUE_CONTAINER)


def _last_end(status: PodContainerStatus) -> ContainerStateTerminated | None:
    return status.state.terminated or status.lastState.terminated


def _failure(status: PodContainerStatus) -> tuple[str, str] | None:
    ended = _last_end(status)
    if ended is None:
        return None
    return f"ExitCode{ended.exitCode}", ended.message or _words_for(ended.exitCode)


def _words_for(exit_code: int) -> str:
    """What is said of a container that left no word, neither in its termination log nor in its log."""
    if exit_code == 0:
        return "container exited with no error"  # Knative's; it has no words for other codes.
    number = exit_code - _SIGNALLED
    if number in {*signal.Signals}:
        return f"container was ended by signal {number} ({signal.Signals(number).name})"
    return f"container exited with code {exit_code}"


def _mark_scale(conditions: LivingConditions, report: ScaleReport | None) -> None:
    unavailable = FALSE in (conditions.status(RESOURCES_AVAILABLE), conditions.status(CONTAINER_HEALTHY))
    initialized = report is not None and report.initialized
    if initialized and not unavailable:
        conditions.mark_true(RESOURCES_AVAILABLE)
        conditions.mark_true(CONTAINER_HEALTHY)
    if not initialized and conditions.status(RESOURCES_AVAILABLE) == TRUE:
        conditions.mark_unknown(RESOURCES_AVAILABLE, _DEPLOYING)
    if report is None:
        return
    if report.activity is Activity.INACTIVE and not initialized and not unavailable:
        conditions.mark_false(RESOURCES_AVAILABLE, _DEADLINE_EXCEEDED, "Initial scale was never achieved")
    conditions.mark(ACTIVE, report.activity.value, report.reason, report.message)


def is_ready_status(status: JsonObject) -> bool:
    """Whether this status says Ready."""
    return any(found["type"] == READY and found["status"] == TRUE for found in status["conditions"])
