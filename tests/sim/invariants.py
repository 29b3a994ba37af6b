"""What must hold in every world (design.md 8): after each change of an object, and once a world has come to rest.

the second reconcile writes nothing            quiet()
no accepted request is lost                    at_rest(), of what machines.Traffic counted
replicas stay within min and max               on each change of a Deployment; at_rest()
no child without owner                         on each new object; at_rest()
only a promotion writes another's `spec`       on each change: one writer for each spec, and the autoscaler for replicas
what is rejected has a condition with a reason on each change; told()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson

from controller.base.clock import Clock, parse_rfc3339
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.storage.records import Change, ChangeType, Key, Record
from onebox.apiserver.storage.store import Store
from tests.sim.machines import Traffic

FOLLOW_S = 2.0
"""How long the autoscaler may take to hear that a revision is routed to. Faults may break its watch twice in that time."""
_UNOWNED = frozenset({"inferenceservices.serving.kserve.io", "serviceaccounts", "events", "endpoints"})
"""What a user, the namespace or nobody owns; Endpoints that have no owner go with the Service of their name."""
_REVISIONS, _DEPLOYMENTS = "revisions.serving.knative.dev", "deployments.apps"
_SPEC = "f:spec"


class Invariants:
    """The rules for one namespace; `broken` says which did not hold, and when."""

    def __init__(self, store: Store, namespace: str, clock: Clock, *, least: int, most: int) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._least = least
        self._most = most
        self._begin_s = clock.monotonic_s()
        self.broken: list[str] = []
        self.changes = 0
        """Changes of objects that were looked at."""
        store.subscribe(self._on_change)

    def close(self) -> None:
        """Looks at no further changes."""
        self._store._listeners.remove(self._on_change)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(f"{self._clock.monotonic_s() - self._begin_s:.2f} s: {otherwise}")

    # After each change.

    def _on_change(self, change: Change) -> None:
        if change.record.key.namespace != self._namespace:
            return
        self.changes += 1
        if change.type is ChangeType.DELETED:
            return
        item, key = _parsed(change.record), change.record.key
        name = f"{item['kind']} {key.name}"
        if change.type is ChangeType.ADDED and key.resource not in _UNOWNED:
            self.expect(bool(item["metadata"].get("ownerReferences")), f"{name} has no owner")
        self._look_at_writers(name, item)
        self._look_at_reasons(name, item)
        if key.resource == _DEPLOYMENTS:
            self._look_at_replicas(item, None if change.previous is None else _parsed(change.previous))

    def _look_at_writers(self, name: str, item: JsonView) -> None:
        writers: dict[str, set[str]] = {}
        for entry in item["metadata"].get("managedFields") or ():
            fields = entry.get("fieldsV1") or {}
            if _SPEC in fields:
                writers.setdefault(entry["manager"], set()).update(fields[_SPEC])
        if item["kind"] == "Deployment" and writers.get("autoscaler") == {"f:replicas"}:
            del writers["autoscaler"]
        self.expect(len(writers) <= 1, f"{name} has a spec with several writers: {sorted(writers)}")

    def _look_at_reasons(self, name: str, item: JsonView) -> None:
        for condition in (item.get("status") or {}).get("conditions") or ():
            # What is only for information may be as it should be when it is False: KServe's Stopped.
            wrong = condition.get("status") == "False" and condition.get("severity") != "Info"
            said = not wrong or condition.get("reason")
            self.expect(bool(said), f"{name} says no reason for {condition['type']}=False")

    def _look_at_replicas(self, deployment: JsonView, before: JsonView | None) -> None:
        name, replicas = deployment["metadata"]["name"], _replicas(deployment)
        self.expect(0 <= replicas <= self._most, f"{name} has {replicas} replicas of at most {self._most}")
        if before is not None and replicas < min(self._least, _replicas(before)):
            self.expect(not self._is_served(deployment), f"{name} has {replicas} replicas of at least {self._least}")

    def _is_served(self, deployment: JsonView) -> bool:
        """Whether requests go to its revision, which works, and have for long enough that everybody knows."""
        owner = deployment["metadata"]["ownerReferences"][0]["name"]
        record = self._store.get(Key(_REVISIONS, self._namespace, owner))
        if record is None or deployment["metadata"].get("deletionTimestamp"):
            return False
        revision = _parsed(record)
        since = (revision["metadata"].get("annotations") or {}).get("serving.knative.dev/routingStateModified")
        if not is_routed(revision) or condition_of(revision, "Ready").get("status") != "True" or since is None:
            return False
        return parse_rfc3339(since) + FOLLOW_S < self._clock.wall_s()

    # At rest.

    def at_rest(self, service: JsonView, traffic: Traffic) -> None:
        """Nobody has changed anything for a while, and no requests come."""
        self.expect(not traffic.lost, f"requests lost: {traffic.lost}")
        self.expect(traffic.waiting == 0, f"{traffic.waiting} requests still wait")
        ready = condition_of(service, "Ready")
        self.expect(ready.get("status") == "True", f"not Ready at last: {service.get('status')}")
        items = [_parsed(record) for record in self._records()]
        uids = {item["metadata"]["uid"] for item in items}
        for item in items:
            self._look_at_owners(item, uids)
        revisions = {item["metadata"]["name"]: item for item in items if item["kind"] == "Revision"}
        for item in items:
            if item["kind"] == "Deployment":
                self._look_at_scale(item, revisions)

    def _look_at_owners(self, item: JsonView, uids: set[str]) -> None:
        meta = item["metadata"]
        for owner in meta.get("ownerReferences") or ():
            name = f"{item['kind']} {meta['name']}"
            self.expect(owner["uid"] in uids, f"{name} outlives its owner {owner['kind']} {owner['name']}")
        if item["kind"] == "Endpoints":
            service = self._store.get(Key("services", self._namespace, meta["name"]))
            self.expect(service is not None, f"Endpoints {meta['name']} outlive their Service")

    def _look_at_scale(self, deployment: JsonView, revisions: Mapping[str, JsonView]) -> None:
        revision = revisions.get(deployment["metadata"]["ownerReferences"][0]["name"], {})
        if condition_of(revision, "Ready").get("status") != "True":
            return  # One that never came up is waited for until its progress deadline.
        wanted, found = self._least if is_routed(revision) else 0, _replicas(deployment)
        self.expect(found == wanted, f"{deployment['metadata']['name']} rests at {found}, not {wanted}")

    def told(self, service: JsonView, words: str) -> None:
        """What cannot be had is said in a condition, with a reason and these words."""
        conditions = (service.get("status") or {}).get("conditions") or ()
        found = [
            each
            for each in conditions
            if each["status"] == "False" and each.get("reason") and words in each.get("message", "")
        ]
        self.expect(bool(found), f"nobody is told of {words!r}: {conditions}")

    def quiet(self, written: Counter[str]) -> None:
        """`written`: what a control plane that looked at everything anew wrote, though nothing had changed."""
        self.expect(not written, f"a quiet world is written to: {dict(written)}")

    def _records(self) -> list[Record]:
        objects = self._store._objects.values()
        return [record for records in objects for record in records.values() if record.key.namespace == self._namespace]


def condition_of(item: JsonView, type_: str) -> JsonView:
    """The condition of this type; {} where there is none."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found["type"] == type_), {})


def is_routed(revision: JsonView) -> bool:
    """Whether some Route sends requests to this Revision."""
    return (revision["metadata"].get("labels") or {}).get("serving.knative.dev/routingState") == "active"


def _replicas(deployment: JsonView) -> int:
    replicas: int = deployment["spec"].get("replicas", 1)
    return replicas


def _parsed(record: Any) -> JsonObject:
    item: JsonObject = orjson.loads(record.data)
    return item
