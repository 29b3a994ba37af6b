"""Deployments: makes and deletes their pods, and says in their status how far they are.

Reads caches only. Pods that we made are in the cache at once, and pods that we deleted count as terminating from the moment
of the request, so that a late watch never makes us do either twice.
"""

from __future__ import annotations

import random
from dataclasses import replace

from controller.api.core import Deployment
from controller.base.clock import Clock
from controller.base.json import JsonView
from controller.base.logging import get_logger
from controller.kube.client import KubeClient
from controller.kube.errors import Rejected
from controller.kube.informer import Change, ChangeKind, Informer
from controller.kube.resources import DEPLOYMENTS, PODS
from controller.kube.typed import TypedObjects
from controller.reconcile.controller import Controller
from controller.reconcile.diff import merge_patch
from controller.reconcile.plan import Key, Outcome
from onebox.workloads.deployment_status import Observed, build_deployment_status, progress_deadline_s
from onebox.workloads.pods import Replica, build_pod, parse_replica, template_hash
from onebox.workloads.rollout import Limits, Rollout, limits_of, plan_rollout

FIELD_MANAGER = "deployment-controller"
WORKERS = 4
"""Deployments worked on at once. A guess: each mostly waits for the API server's disk."""
STATUS_SETTLE_S = 0.5
"""How long a status waits that brings no good news. A pod from a warm template is ready in 0.1 s, and then one write tells
all; a guess at what a person who watches would notice."""
REFUSED_RETRY_S = 10.0
"""When a pod that the API server refused is tried again: what it lacked (a quota, say) may be there then. A guess."""
_OWNER_INDEX = "controller uid"

log = get_logger(__name__)


class DeploymentController:
    """Brings each Deployment's pods to what its spec says."""

    def __init__(
        self,
        client: KubeClient,
        *,
        deployments: Informer,
        pods: Informer,
        namespaces: Informer,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._client = client
        self._deployments = deployments
        self._pods = pods
        self._namespaces = namespaces
        self._clock = clock
        self._typed = TypedObjects()
        self._rng = rng
        self._deleted: set[str] = set()
        """Uids of pods that we asked to be deleted and that the cache still has."""
        self._unsettled_s: dict[Key, float] = {}
        """Since when (monotonic) a Deployment has a status to write that brings no good news."""
        pods.add_index(_OWNER_INDEX, _controller_uids)
        pods.subscribe(self._forget)
        self.loop = Controller("deployments", self.reconcile, workers=WORKERS, clock=clock, rng=rng)
        self.loop.watch(deployments, lambda item: [Key(item["metadata"]["namespace"], item["metadata"]["name"])])
        self.loop.watch(pods, _owning_deployments)

    async def reconcile(self, key: Key) -> Outcome:
        """One step for one Deployment."""
        stored = self._deployments.get(*key)
        if stored is None:
            self._unsettled_s.pop(key, None)
            return Outcome()
        deployment = self._typed.of(Deployment, stored)
        if deployment.metadata.deletionTimestamp:
            return Outcome()  # Garbage collection takes the pods.
        hash_, limits = template_hash(deployment), limits_of(deployment)
        rollout = self._plan(deployment, limits, hash_)
        failure = await self._carry_out(deployment, rollout, hash_)
        observed = Observed(
            deployment=deployment,
            limits=limits,
            replicas=self._replicas(deployment),
            template_hash=hash_,
            failure=failure,
            now_s=self._clock.wall_s(),
        )
        status_wait_s = await self._write_status(key, observed, stored)
        deadline_s = progress_deadline_s(deployment.status, deployment)
        deadline_wait_s = max(0.1, deadline_s - self._clock.wall_s()) if deadline_s is not None else None
        refused_wait_s = REFUSED_RETRY_S if failure else None
        waits = (rollout.look_again_s, status_wait_s, deadline_wait_s, refused_wait_s)
        return Outcome(requeue_after_s=min((wait for wait in waits if wait is not None), default=None))

    def _plan(self, deployment: Deployment, limits: Limits, hash_: str) -> Rollout:
        namespace = self._namespaces.get("", deployment.metadata.namespace)
        ending = namespace is not None and namespace["metadata"].get("deletionTimestamp")
        if deployment.spec.paused or ending:
            return Rollout()
        return plan_rollout(limits, self._replicas(deployment), hash_, self._clock.wall_s())

    def _replicas(self, deployment: Deployment) -> list[Replica]:
        found = (parse_replica(pod) for pod in self._pods.indexed(_OWNER_INDEX, deployment.metadata.uid))
        return [replace(replica, terminating=replica.terminating or replica.uid in self._deleted) for replica in found]

    async def _carry_out(self, deployment: Deployment, rollout: Rollout, hash_: str) -> str:
        """Why the API server refused to make a pod; "" where it did not."""
        meta = deployment.metadata
        failure = ""
        for replica in rollout.delete:
            await self._client.delete(PODS, replica.name, meta.namespace, uid=replica.uid)
            if self._pods.get(meta.namespace, replica.name) is not None:
                self._deleted.add(replica.uid)
        for _ in range(rollout.create):
            try:
                self._pods.remember(await self._client.create(PODS, build_pod(deployment, hash_, self._rng)))
            except Rejected as error:
                failure = error.message
                break
        if rollout.create or rollout.delete:
            created, deleted = rollout.create, len(rollout.delete)
            names = {"namespace": meta.namespace, "deployment": meta.name, "template": hash_}
            log.info("scaled", **names, created=created, deleted=deleted, refused=failure)
        return failure

    async def _write_status(self, key: Key, observed: Observed, stored: JsonView) -> float | None:
        """Writes what changed; returns the seconds to wait where it may still change and is not worth a write yet."""
        old: JsonView = stored.get("status") or {}
        new = build_deployment_status(observed)
        patch = merge_patch(old, new)
        if not patch:
            self._unsettled_s.pop(key, None)
            return None
        now_s = self._clock.monotonic_s()
        if not is_news(old, new):
            wait_s = self._unsettled_s.setdefault(key, now_s) + STATUS_SETTLE_S - now_s
            if wait_s > 0:
                return wait_s
        self._unsettled_s.pop(key, None)
        meta = observed.deployment.metadata
        answer = await self._client.patch(
            DEPLOYMENTS, meta.name, meta.namespace, {"status": patch}, subresource="status", field_manager=FIELD_MANAGER
        )
        self._deployments.remember(answer)
        return None

    def _forget(self, change: Change) -> None:
        if change.kind is ChangeKind.DELETED:
            self._deleted.discard(change.object["metadata"]["uid"])


def is_news(old: JsonView, new: JsonView) -> bool:
    """Whether somebody may wait for this status: pods became available, or a rollout ended or cannot go on."""
    if new.get("availableReplicas", 0) > old.get("availableReplicas", 0):
        return True
    said = _verdicts(new) - _verdicts(old)
    # The first status says Progressing True at once; that is no news.
    return bool(said) if old.get("conditions") else any(type_ == "ReplicaFailure" for type_, _ in said)


def _verdicts(status: JsonView) -> set[tuple[str, str]]:
    conditions = status.get("conditions") or ()
    return {(condition["type"], condition["status"]) for condition in conditions if condition["type"] != "Available"}


def _controller_uids(pod: JsonView) -> list[str]:
    references = pod["metadata"].get("ownerReferences") or ()
    return [reference["uid"] for reference in references if reference.get("controller")]


def _owning_deployments(pod: JsonView) -> list[Key]:
    meta = pod["metadata"]
    return [
        Key(meta["namespace"], reference["name"])
        for reference in meta.get("ownerReferences") or ()
        if reference.get("controller") and reference["kind"] == DEPLOYMENTS.kind
    ]
