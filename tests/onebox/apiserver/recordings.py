"""The recorded requests, repaired where the recorder wrote down another body than it sent, and how answers are compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDINGS = Path(__file__).parents[3] / "../shared/golden/kubeapi/transcripts.json"

_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]},
}


def _pod(*, requests: dict[str, str] | None = None, cpu: str = "1", restart: str | None = None) -> dict[str, Any]:
    pod: dict[str, Any] = json.loads(json.dumps(_POD))
    resources = pod["spec"]["containers"][0]["resources"]
    resources["limits"]["cpu"] = cpu
    if requests:
        resources["requests"] = requests
    if restart:
        pod["spec"]["restartPolicy"] = restart
    return pod


def _definition(schema: dict[str, Any]) -> dict[str, Any]:
    names = {"plural": "bads", "kind": "Bad", "singular": "bad"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "bads.rec.example.com"},
        "spec": {"group": "rec.example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _deployment(labels: dict[str, str]) -> dict[str, Any]:
    container = {"name": "c", "image": "i"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "e"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }


REPAIRED: dict[str, dict[str, Any]] = {
    "a CRD without a structural schema": _definition(
        {"properties": {"spec": {"properties": {"a": {"type": "string"}}}}}
    ),
    "selector does not match": _deployment({"z": "z"}),
    "pod request over limit": _pod(requests={"cpu": "2"}),
    "pod with a bad quantity": _pod(cpu="one"),
    "pod with a bad enum": _pod(restart="Maybe"),
}
"""Bodies that the recorder changed after sending them, as the answers show."""

_RULES = "rules in CEL are not evaluated yet"
NOT_SENT = {
    "a CRD with a rule that does not compile": _RULES,
    "rule broken": _RULES,
    "transition rule": _RULES,
}
"""Requests that would be stored here and change what follows."""


@dataclass(frozen=True)
class Difference:
    """Why an answer may differ, and where: paths into the body; "" for all of it."""

    reason: str
    paths: tuple[str, ...]


_DESCRIPTIONS = "descriptions of fields are another project's prose"
_MORE_KINDS = "this server serves more groups"
_OTHER_OBJECTS = "a cluster's controllers put objects of their own into each namespace"
_CAUSES = (".message", ".details.causes")
_UNCHECKED = Difference("no rules, hence no word about unchecked rules", _CAUSES)
KNOWN: dict[str, Difference] = {
    "a CRD whose name does not fit": Difference(_RULES, _CAUSES),
    "discovery /version": Difference("another program", (".gitCommit", ".goVersion", ".compiler")),
    "discovery /api": Difference("another address", (".serverAddressByClientCIDRs",)),
    "discovery /apis/rec.example.com/v1": Difference("a hash of our own", (".resources[0].storageVersionHash",)),
    "aggregated discovery of one group": Difference(_MORE_KINDS, (".items",)),
    "apiVersion unknown": Difference("names a Go source file", (".message",)),
    "get": Difference("the recorder changed the answer after receiving it", (".data.k",)),
    "list as a table": Difference(_OTHER_OBJECTS, (".rows",)),
    "list as metadata": Difference(_OTHER_OBJECTS, (".metadata.continue", ".metadata.remainingItemCount")),
    "required field missing": _UNCHECKED,
    "every kind of schema error at once": Difference(
        "no rules, and the scale's accessor is not an error of its own", _CAUSES
    ),
    "two type errors": _UNCHECKED,
    "change an immutable pod field": Difference("the difference in Go's notation is left out", _CAUSES),
    "service: defaults": Difference("addresses are drawn at random", (".spec.clusterIP", ".spec.clusterIPs")),
    "finalizer: add another while deleting": Difference("the reference lists the cause twice", _CAUSES),
    "generateName": Difference("random by nature", (".metadata.name",)),
    "OpenAPI v3 index": Difference(_MORE_KINDS, (".paths",)),
    "OpenAPI v3 of the custom group": Difference(_DESCRIPTIONS, ("",)),
}


def load_recordings() -> list[dict[str, Any]]:
    """All recordings, in order."""
    loaded: list[dict[str, Any]] = json.loads(RECORDINGS.read_text())
    return loaded


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where two answers differ; placeholders match what they stand for, descriptions and ages anything."""
    if path.endswith(".managedFields"):
        # Ordered by time, and which writes fall into the same second is chance.
        wanted, found = (sorted(entries, key=_manager) for entries in (wanted, found))
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted({*wanted, *found}):
            if name == "description":
                continue
            if name not in found or name not in wanted:
                yield f"{path}.{name}: only {'wanted' if name in wanted else 'found'}"
            else:
                yield from differences(wanted[name], found[name], f"{path}.{name}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif not _matches(wanted, found, path):
        yield f"{path}: wanted {json.dumps(wanted)[:300]}, found {json.dumps(found)[:300]}"


def _manager(entry: dict[str, str]) -> tuple[str, str, str]:
    return entry["manager"], entry["operation"], entry.get("subresource", "")


def _matches(wanted: Any, found: Any, path: str) -> bool:
    if not isinstance(wanted, str) or not isinstance(found, str):
        return bool(wanted == found)
    if re.fullmatch(r"\d+s", wanted) and ".cells" in path:
        return re.fullmatch(r"\d+s", found) is not None
    pattern = re.escape(wanted).replace("<uid>", "[0-9a-f-]{36}").replace("<n>", r"\d+")
    return re.fullmatch(pattern.replace("<time>", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), found) is not None


def in_any_order(body: Any) -> Any:
    """A refusal whose causes are sorted, since Go's maps have no order; its message is compared by its causes."""
    if not isinstance(body, dict) or not isinstance(body.get("details"), dict):
        return body
    causes = body["details"].get("causes")
    if not causes or len(causes) < 2:
        return body
    ordered = sorted(causes, key=lambda cause: (cause.get("field", ""), cause.get("message", "")))
    return {**body, "message": "", "details": {**body["details"], "causes": ordered}}
