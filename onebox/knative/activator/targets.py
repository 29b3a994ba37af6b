"""What the activator knows of each revision: its limits, its pods, who waits. Fed by Revisions and their Endpoints."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

from controller.base.json import JsonView
from controller.kube.informer import Change, ChangeKind, Informer
from controller.reconcile.plan import Key
from onebox.knative.activator.counts import RequestCounts
from onebox.knative.activator.limits import Limits
from onebox.knative.activator.throttle import Throttle
from onebox.knative.endpoints import parse_endpoints
from onebox.knative.names import private_service_name
from onebox.knative.revision_labels import revision_labels

REQUEST_TIMEOUT_S = 300.0
"""timeoutSeconds of a revision that has none; Knative's default. (Admission writes it into every new one.)"""
_KEPT_METADATA = ("name", "namespace", "uid", "resourceVersion", "labels")
_KEPT_PARTS = ("spec", "subsets")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionLimits:
    """What a Revision's spec says about its requests."""

    container_concurrency: int = 0
    timeout_s: float = REQUEST_TIMEOUT_S
    """For a request in a pod, and as much again for its wait before: a cold start must not eat into the model's time."""
    response_start_s: float = 0.0
    """0: no limit. Counts from the moment in which a pod has the request."""
    idle_s: float = 0.0
    """0: no limit."""
    trusts_probes: bool = True
    """Whether a pod that answers our probe may be used before Kubernetes calls it ready."""


def parse_limits(revision: JsonView) -> RevisionLimits:
    spec = revision.get("spec") or {}
    containers = spec.get("containers") or ()
    # An exec probe is run by the node and a startup probe comes before readiness: the queue-proxy knows of neither.
    unknown = any(
        "startupProbe" in container or "exec" in (container.get("readinessProbe") or {}) for container in containers
    )
    return RevisionLimits(
        container_concurrency=int(spec.get("containerConcurrency") or 0),
        timeout_s=float(spec.get("timeoutSeconds") or REQUEST_TIMEOUT_S),
        response_start_s=float(spec.get("responseStartTimeoutSeconds") or 0),
        idle_s=float(spec.get("idleTimeoutSeconds") or 0),
        trusts_probes=not unknown,
    )


def keep_parts(obj: JsonView) -> JsonView:
    """What is looked at here of a Revision or of Endpoints: a fifth of it."""
    meta = {name: obj["metadata"][name] for name in _KEPT_METADATA if name in obj["metadata"]}
    return {"metadata": meta, **{name: obj[name] for name in _KEPT_PARTS if name in obj}}


class Target:
    """One revision."""

    def __init__(self, key: Key, limits: RevisionLimits, throttle: Throttle, *, labels: str) -> None:
        self.key = key
        self.labels = labels
        """Of its metrics, rendered."""
        self.counts = RequestCounts()
        self.limits = limits
        self.throttle = throttle
        self.pods_changed = asyncio.Event()
        """Set whenever there may be other pods to probe."""


class Targets:
    """All revisions, by key."""

    def __init__(self, revisions: Informer, endpoints: Informer, *, limits: Limits, rng: random.Random) -> None:
        self._revisions = revisions
        self._endpoints = endpoints
        self._limits = limits
        self._rng = rng
        self._targets: dict[Key, Target] = {}
        self._private: dict[tuple[str, str], Key] = {}  # (namespace, name of the private Service) -> revision

    def watch(self) -> None:
        self._revisions.subscribe(self._on_revision)
        self._endpoints.subscribe(self._on_endpoints)

    async def synced(self) -> None:
        """Returns once all revisions and pods are known."""
        await self._revisions.synced()
        await self._endpoints.synced()

    def get(self, key: Key) -> Target | None:
        return self._targets.get(key)

    def __iter__(self) -> Iterator[Target]:
        return iter(list(self._targets.values()))

    def _on_revision(self, change: Change) -> None:
        metadata = change.object["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        private = (key.namespace, private_service_name(key.name))
        if change.kind is ChangeKind.DELETED:
            # Requests in its pods go on to their end; those that wait reach their limit.
            self._targets.pop(key, None)
            self._private.pop(private, None)
            return
        limits = parse_limits(change.object)
        target = self._targets.get(key)
        if target is None:
            throttle = Throttle(limits.container_concurrency, limits=self._limits, rng=self._rng)
            self._targets[key] = target = Target(key, limits, throttle, labels=revision_labels(change.object))
            self._private[private] = key
            self._set_pods(target, self._endpoints.get(*private))
        elif target.limits != limits:
            target.limits = limits
            target.throttle.configure(limits.container_concurrency)

    def _on_endpoints(self, change: Change) -> None:
        metadata = change.object["metadata"]
        key = self._private.get((metadata["namespace"], metadata["name"]))
        if key is not None and (target := self._targets.get(key)) is not None:
            self._set_pods(target, None if change.kind is ChangeKind.DELETED else change.object)

    def _set_pods(self, target: Target, endpoints: JsonView | None) -> None:
        addresses = [(pod.data(), pod.ready) for pod in parse_endpoints(endpoints)]
        target.throttle.set_pods(
            ready=[address for address, ready in addresses if address is not None and ready],
            not_ready=[address for address, ready in addresses if address is not None and not ready],
        )
        target.pods_changed.set()
