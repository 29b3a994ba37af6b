"""Which pods of a Deployment to make and which to delete now. (pure)

The rules are kube-controller-manager's (pkg/controller/deployment/rolling.go, replicaset/replica_set.go): with R replicas,
there are never more than R + maxSurge pods, and never fewer than R - maxUnavailable available ones because of a rollout.
Old pods that do not work go first, since deleting them costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controller.api.core import Deployment, PortOrName
from onebox.workloads.pods import Replica

FINISHED_REST_S = 10.0
"""How long a pod that ended for good keeps its place before it is deleted and replaced. Kubernetes replaces it at once;
on one machine that would be a busy loop where the node refuses the pod. Kubelet's first back-off."""
_SURGE_DEFAULT = _UNAVAILABLE_DEFAULT = "25%"
"""Kubernetes' defaults (apps/v1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How a Deployment may move from one template to the next, in numbers of pods."""

    replicas: int
    surge: int
    unavailable: int
    recreate: bool = False
    """Stop all old pods before the first new one starts."""
    min_ready_s: float = 0.0
    """How long a pod must have been ready to count as available."""

    @property
    def available_min(self) -> int:
        return self.replicas - self.unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The next step towards the wanted pods."""

    create: int = 0
    delete: tuple[Replica, ...] = ()
    look_again_s: float | None = None
    """After this time the answer changes although nothing happens."""


def limits_of(deployment: Deployment) -> Limits:
    """The Deployment's limits with Kubernetes' defaults and rounding: surge up, unavailable down, not both zero."""
    spec = deployment.spec
    replicas = 1 if spec.replicas is None else spec.replicas
    if spec.strategy.type == "Recreate":
        return Limits(replicas=replicas, surge=0, unavailable=replicas, recreate=True, min_ready_s=spec.minReadySeconds)
    rolling = spec.strategy.rollingUpdate
    surge = _share(rolling.maxSurge if rolling else None, _SURGE_DEFAULT, replicas, up=True)
    unavailable = _share(rolling.maxUnavailable if rolling else None, _UNAVAILABLE_DEFAULT, replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # Else nothing could ever move.
    return Limits(
        replicas=replicas, surge=surge, unavailable=min(unavailable, replicas), min_ready_s=spec.minReadySeconds
    )


def is_available(replica: Replica, limits: Limits, now_s: float) -> bool:
    """Whether the pod works, and has for long enough."""
    ready_since_s = replica.ready_since_s
    return is_active(replica) and ready_since_s is not None and now_s - ready_since_s >= limits.min_ready_s


def is_active(replica: Replica) -> bool:
    """Whether the pod counts as one of the Deployment's."""
    return not replica.terminating and replica.finished_s is None


def plan_rollout(limits: Limits, replicas: Sequence[Replica], template_hash: str, now_s: float) -> Rollout:
    """The pods to make and to delete, given all pods that the Deployment controls, terminating and finished ones too."""
    active = [replica for replica in replicas if is_active(replica)]
    finished = [replica for replica in replicas if replica.finished_s is not None and not replica.terminating]
    resting = [replica for replica in finished if _rest_s(replica, now_s) > 0]
    new = [replica for replica in active if replica.template_hash == template_hash]
    old = [replica for replica in active if replica.template_hash != template_hash]
    resting_new = sum(replica.template_hash == template_hash for replica in resting)
    rested = [replica for replica in finished if replica not in resting]
    surplus = _first_to_go(new, limits, now_s)[: max(0, len(new) - limits.replicas)]
    create = limits.replicas - len(new) - resting_new
    if limits.recreate:
        # Terminating pods still run; the point of this strategy is that two templates never do at once.
        old_ones_run = any(replica.template_hash != template_hash for replica in replicas if replica.finished_s is None)
        return _rollout(0 if old_ones_run else create, [*rested, *surplus, *old], limits, replicas, now_s)
    create = min(create, limits.replicas + limits.surge - len(active) - resting_new)
    return _rollout(create, [*rested, *surplus, *_old_to_go(new, old, limits, now_s)], limits, replicas, now_s)


def _rollout(
    create: int, delete: Sequence[Replica], limits: Limits, replicas: Sequence[Replica], now_s: float
) -> Rollout:
    waits = [rest_s for replica in replicas if (rest_s := _rest_s(replica, now_s)) > 0]
    if limits.min_ready_s:
        waits += [
            wait_s
            for replica in replicas
            if replica.ready_since_s is not None and (wait_s := replica.ready_since_s + limits.min_ready_s - now_s) > 0
        ]
    return Rollout(create=max(0, create), delete=tuple(delete), look_again_s=min(waits, default=None))


def _rest_s(replica: Replica, now_s: float) -> float:
    return 0.0 if replica.finished_s is None else replica.finished_s + FINISHED_REST_S - now_s


def _old_to_go(new: Sequence[Replica], old: Sequence[Replica], limits: Limits, now_s: float) -> list[Replica]:
    if not old:
        return []
    new_available = sum(is_available(replica, limits, now_s) for replica in new)
    # Pods that may go at all: new ones that are not available yet will need their place.
    room = len(new) + len(old) - limits.available_min - (len(new) - new_available)
    ordered = _first_to_go(old, limits, now_s)
    broken = [replica for replica in ordered if not is_available(replica, limits, now_s)]
    working = ordered[len(broken) :]
    gone = broken[: max(0, room)]
    spare = min(new_available + len(working) - limits.available_min, room - len(gone))
    return [*gone, *working[: max(0, spare)]]


def _first_to_go(replicas: Sequence[Replica], limits: Limits, now_s: float) -> list[Replica]:
    return sorted(
        replicas,
        key=lambda replica: (
            is_available(replica, limits, now_s),
            replica.ready_since_s is not None,
            replica.deletion_cost,
            -(replica.ready_since_s or 0.0),
            -replica.created_s,
            replica.name,
        ),
    )


def _share(value: PortOrName | None, default: str, replicas: int, *, up: bool) -> int:
    """`value` pods, or where it is a percentage that part of the replicas."""
    value = default if value is None else value
    if isinstance(value, int):
        return max(0, value)
    percent = int(value.removesuffix("%"))
    exact = replicas * percent / 100
    return math.ceil(exact) if up else math.floor(exact)
