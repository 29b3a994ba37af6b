"""Deletes objects: at once, or marked first where somebody still has something to do (finalizers, grace, content)."""

from __future__ import annotations

from dataclasses import dataclass

from controller.base.clock import Clock, rfc3339
from controller.base.json import JsonObject
from onebox.apiserver.kinds.strategy import Deletion
from onebox.apiserver.objects.encoding import parse_object
from onebox.apiserver.objects.writing import Writer, Written
from onebox.apiserver.requests import DeleteOptions, Target
from onebox.apiserver.resources.crds import CRD_KEY
from onebox.apiserver.resources.registry import Registry
from onebox.apiserver.status import conflict
from onebox.apiserver.storage.records import ChangeType, Record
from onebox.apiserver.storage.store import Store

_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
"""What a propagation policy leaves for the garbage collector to do before the object may go."""
_DEFAULT_GRACE_S = 30
"""Kubernetes' terminationGracePeriodSeconds."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A decided deletion; `gone` is False where the object was only marked."""

    written: Written
    gone: bool


class Deleter:
    """Decides deletions against the latest state, like `Writer` and through it."""

    def __init__(self, store: Store, registry: Registry, writer: Writer, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._writer = writer
        self._clock = clock

    def delete(self, target: Target, record: Record, options: DeleteOptions) -> Deleted:
        """Decides on one object; the target names it."""
        value = parse_object(record, target)
        metadata = value["metadata"]
        self._check_preconditions(target, value, options)
        self._set_policy(metadata, options)
        grace_s = self._grace_s(target, value, options)
        emptied = target.resource.strategy.deletion is Deletion.EMPTIED and (value.get("spec") or {}).get("finalizers")
        if not grace_s and not metadata.get("finalizers") and not emptied:
            return self._remove(target, value, options)
        if not self._mark(target, value, grace_s):
            return Deleted(Written(value, None), gone=False)
        if options.dry_run:
            return Deleted(Written(value, None), gone=False)
        return Deleted(self._writer.put(target, value, ChangeType.MODIFIED), gone=False)

    def _check_preconditions(self, target: Target, value: JsonObject, options: DeleteOptions) -> None:
        resource, metadata = target.resource, value["metadata"]
        if options.uid is not None and options.uid != metadata["uid"]:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record ({metadata['uid']}). "
                "The object might have been deleted and then recreated"
            )
            raise conflict(resource.kind, resource.group, target.name, why)
        if options.resource_version is not None and options.resource_version != metadata["resourceVersion"]:
            why = (
                f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
                f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have been modified"
            )
            raise conflict(resource.kind, resource.group, target.name, why)

    def _set_policy(self, metadata: JsonObject, options: DeleteOptions) -> None:
        wanted = _FINALIZERS.get(options.policy or "")
        kept = [name for name in metadata.get("finalizers") or () if name not in _FINALIZERS.values()]
        if options.policy is None:
            return
        if wanted is not None:
            kept.append(wanted)
        if kept:
            metadata["finalizers"] = kept
        else:
            metadata.pop("finalizers", None)

    def _grace_s(self, target: Target, value: JsonObject, options: DeleteOptions) -> int:
        if target.resource.strategy.deletion is not Deletion.GRACEFUL:
            return 0
        spec, status = value.get("spec") or {}, value.get("status") or {}
        # Nothing runs that would need time: no node has it, or it has ended.
        if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            return 0
        if options.grace_s is not None:
            return max(0, options.grace_s)
        return int(spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_S))

    def _mark(self, target: Target, value: JsonObject, grace_s: int) -> bool:
        """Marks an object as being deleted, or shortens its grace; False where it is marked already."""
        metadata = value["metadata"]
        now_s = self._clock.wall_s()
        if metadata.get("deletionTimestamp"):
            if grace_s >= metadata.get("deletionGracePeriodSeconds", 0):
                return False
        elif metadata.get("generation"):
            metadata["generation"] += 1
        metadata["deletionTimestamp"] = rfc3339(now_s + grace_s)
        if target.resource.strategy.deletion is Deletion.EMPTIED:
            value["status"] = {**(value.get("status") or {}), "phase": "Terminating"}
        else:
            metadata["deletionGracePeriodSeconds"] = grace_s
        return True

    def _remove(self, target: Target, value: JsonObject, options: DeleteOptions) -> Deleted:
        if target.resource.strategy.deletion is Deletion.GRACEFUL:
            self._mark(target, value, 0)
        if options.dry_run:
            return Deleted(Written(value, None), gone=True)
        if target.resource.key == CRD_KEY:
            self._remove_instances(value)
        return Deleted(self._writer.put(target, value, ChangeType.DELETED), gone=True)

    def _remove_instances(self, crd: JsonObject) -> None:
        """Objects of a kind go with its definition, finalizers or not: nobody could ever read them again."""
        spec = crd["spec"]
        resource = self._registry.by_key(f"{spec['names']['plural']}.{spec['group']}")
        if resource is None:
            return
        version = resource.versions[resource.storage]
        for record in self._store.select(resource.key):
            key = record.key
            instance = Target(resource=resource, version=version, namespace=key.namespace, name=key.name)
            self._writer.put(instance, parse_object(record, instance), ChangeType.DELETED)
