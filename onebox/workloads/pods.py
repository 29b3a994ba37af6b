"""The pods of a Deployment: their names, what they look like, and what of them a rollout looks at. (pure)

Kubernetes has a ReplicaSet between the two; here the label pod-template-hash alone says which template a pod was made from.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import orjson

from controller.api.core import Deployment
from controller.api.meta import owner_reference
from controller.base.clock import parse_rfc3339
from controller.base.json import JsonObject, JsonView

NODE_NAME = "onebox"
"""The only node. There is no scheduler: pods are made with their node."""
HASH_LABEL = "pod-template-hash"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' characters for generated names: no vowels and look-alikes, so that no words come out."""
_HASH_LENGTH = 10
_SUFFIX_LENGTH = 5
_BASE_LENGTH_MAX = 58
"""Kubernetes cuts what comes before a generated suffix here, so that names stay DNS labels of 63 characters."""
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A pod as a rollout sees it; times are Unix times in seconds."""

    name: str
    uid: str
    template_hash: str
    created_s: float
    ready_since_s: float | None = None
    """None while it is not ready."""
    terminating: bool = False
    finished_s: float | None = None
    """When it ended for good; None while it may still run."""
    deletion_cost: int = 0
    """What its user says that losing it costs; lower goes first."""


def template_hash(deployment: Deployment) -> str:
    """The value of pod-template-hash for this Deployment's template: the same for the same template, in any process."""
    content = orjson.dumps(deployment.spec.template.to_json(), option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(content).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_HASH_LENGTH])


def build_pod(deployment: Deployment, hash_: str, rng: random.Random) -> JsonObject:
    """A new pod of the Deployment's template, with a name of its own."""
    template = deployment.spec.template.to_json()
    meta = template.get("metadata") or {}
    base = f"{deployment.metadata.name}-{hash_}-"[:_BASE_LENGTH_MAX]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **{name: value for name, value in meta.items() if name in ("annotations", "finalizers") and value},
            "name": base + "".join(rng.choices(_ALPHABET, k=_SUFFIX_LENGTH)),
            "generateName": f"{deployment.metadata.name}-{hash_}-",
            "namespace": deployment.metadata.namespace,
            "labels": {**(meta.get("labels") or {}), HASH_LABEL: hash_},
            "ownerReferences": [owner_reference(deployment).to_json()],
        },
        "spec": {**template["spec"], "nodeName": NODE_NAME},
    }


def parse_replica(pod: JsonView) -> Replica:
    """What a rollout needs to know of a stored pod."""
    meta, status = pod["metadata"], pod.get("status") or {}
    return Replica(
        name=meta["name"],
        uid=meta["uid"],
        template_hash=(meta.get("labels") or {}).get(HASH_LABEL, ""),
        created_s=_time_s(meta.get("creationTimestamp")),
        ready_since_s=_ready_since_s(status),
        terminating=bool(meta.get("deletionTimestamp")),
        finished_s=_finished_s(pod) if status.get("phase") in _FINISHED else None,
        deletion_cost=_deletion_cost(meta),
    )


def _ready_since_s(status: JsonView) -> float | None:
    for condition in status.get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return _time_s(condition.get("lastTransitionTime"))
    return None


def _finished_s(pod: JsonView) -> float:
    statuses = pod["status"].get("containerStatuses") or ()
    ends = [((status.get("state") or {}).get("terminated") or {}).get("finishedAt") for status in statuses]
    return max((_time_s(end) for end in ends if end), default=_time_s(pod["metadata"].get("creationTimestamp")))


def _deletion_cost(meta: JsonView) -> int:
    try:
        return int((meta.get("annotations") or {}).get(_DELETION_COST, 0))
    except ValueError:
        return 0  # Kubernetes ignores what is no number as well.


def _time_s(text: str | None) -> float:
    return parse_rfc3339(text) if text else 0.0
