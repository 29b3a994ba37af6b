"""The status of a Deployment, with the conditions that kubectl and Knative read. (pure)

Progressing follows one rollout: a new template starts it, each pod that comes up moves it, all of them up complete it, and
a rollout that has not moved for progressDeadlineSeconds has failed. A completed one stays complete while pods come and go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.api.core import Deployment, DeploymentStatus
from controller.api.meta import Condition
from controller.base.clock import parse_rfc3339, rfc3339
from controller.base.json import JsonObject
from onebox.workloads.pods import Replica
from onebox.workloads.rollout import Limits, is_active, is_available

_COMPLETE = "NewReplicaSetAvailable"
_TIMED_OUT = "ProgressDeadlineExceeded"
_FAILURE_REASON = "FailedCreate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a status is made from."""

    deployment: Deployment
    limits: Limits
    replicas: Sequence[Replica]
    template_hash: str
    failure: str = ""
    """Why the API server refused to make a pod; "" where it did not."""
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    replicas: int
    updated: int
    ready: int
    available: int
    unavailable: int

    @classmethod
    def of(cls, observed: Observed) -> _Counts:
        active = [replica for replica in observed.replicas if is_active(replica)]
        available = sum(is_available(replica, observed.limits, observed.now_s) for replica in active)
        return cls(
            replicas=len(active),
            updated=sum(replica.template_hash == observed.template_hash for replica in active),
            ready=sum(replica.ready_since_s is not None for replica in active),
            available=available,
            unavailable=max(0, max(observed.limits.replicas, len(active)) - available),
        )

    def complete(self, wanted: int) -> bool:
        return self.updated == self.replicas == self.available == wanted

    def moved_since(self, old: DeploymentStatus) -> bool:
        return (
            self.updated > old.updatedReplicas
            or self.replicas - self.updated < old.replicas - old.updatedReplicas
            or self.ready > old.readyReplicas
            or self.available > old.availableReplicas
        )


def build_deployment_status(observed: Observed) -> JsonObject:
    """The whole status; numbers that are 0 are left out, as Kubernetes does."""
    counts = _Counts.of(observed)
    numbers = {
        "replicas": counts.replicas,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": counts.unavailable,
    }
    conditions = [_available(observed, counts), _progressing(observed, counts), *_failures(observed)]
    return {
        "observedGeneration": observed.deployment.metadata.generation,
        **{name: number for name, number in numbers.items() if number},
        "conditions": [condition.to_json() for condition in conditions],
    }


def progress_deadline_s(status: DeploymentStatus, deployment: Deployment) -> float | None:
    """The Unix time at which the rollout that this status shows will have failed; None where none is under way."""
    progressing = status.condition("Progressing")
    if progressing is None or progressing.reason in (_COMPLETE, _TIMED_OUT) or deployment.spec.paused:
        return None
    updated = (progressing.model_extra or {}).get("lastUpdateTime")
    return parse_rfc3339(updated) + deployment.spec.progressDeadlineSeconds if updated else None


def _available(observed: Observed, counts: _Counts) -> Condition:
    if counts.available >= observed.limits.available_min:
        found = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        found = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    return _condition(observed, "Available", *found)


def _progressing(observed: Observed, counts: _Counts) -> Condition:
    old = observed.deployment.status.condition("Progressing")
    replica_set = f'ReplicaSet "{observed.deployment.metadata.name}-{observed.template_hash}"'
    if observed.deployment.spec.paused:
        return _condition(observed, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    same_rollout = old is not None and replica_set in (old.message or "")
    was_complete = same_rollout and old is not None and old.reason == _COMPLETE
    if was_complete or counts.complete(observed.limits.replicas):
        return _condition(observed, "Progressing", "True", _COMPLETE, f"{replica_set} has successfully progressed.")
    if old is None or not same_rollout or counts.moved_since(observed.deployment.status):
        message = f"{replica_set} is progressing."
        return _condition(observed, "Progressing", "True", "ReplicaSetUpdated", message, moved=True)
    deadline_s = progress_deadline_s(observed.deployment.status, observed.deployment)
    if deadline_s is not None and observed.now_s >= deadline_s:
        return _condition(observed, "Progressing", "False", _TIMED_OUT, f"{replica_set} has timed out progressing.")
    return old


def _failures(observed: Observed) -> list[Condition]:
    if not observed.failure:
        return []
    return [_condition(observed, "ReplicaFailure", "True", _FAILURE_REASON, observed.failure)]


def _condition(
    observed: Observed, type_: str, status: str, reason: str, message: str, *, moved: bool = False
) -> Condition:
    old = observed.deployment.status.condition(type_)
    if old is not None and (old.status, old.reason, old.message) == (status, reason, message) and not moved:
        return old
    now = rfc3339(observed.now_s)
    kept = old.lastTransitionTime if old is not None and old.status == status else None
    fields = {"type": type_, "status": status, "lastUpdateTime": now, "lastTransitionTime": kept or now}
    return Condition.parse({**fields, "reason": reason, "message": message})
