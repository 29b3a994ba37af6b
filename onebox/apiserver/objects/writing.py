"""Creates and changes objects: the one path that every write takes, whatever verb or patch it came with.

A write is decided without awaiting between reading the latest state and queueing the new one, so that two writes of one
object can never be decided on the same state. What is awaited is its commit.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import orjson

from controller.api.admission import LOOKS_AT_OTHERS, AdmissionRequest, Operation
from controller.base.clock import Clock, rfc3339
from controller.base.errors import FieldError, Invalid, UserError
from controller.base.json import JsonObject, JsonView
from onebox.apiserver.addresses import ServiceAddresses
from onebox.apiserver.admission import Admissions
from onebox.apiserver.fields.managers import UPDATE, Entry, Manager, after_update, parse_entries, render_entries
from onebox.apiserver.kinds.strategy import Generation, World
from onebox.apiserver.metadata import carry_over, generated_name, meta_errors, name_errors, tidy
from onebox.apiserver.objects.decoding import cannot_decode
from onebox.apiserver.objects.encoding import build_record, parse_object
from onebox.apiserver.requests import Target, WriteOptions
from onebox.apiserver.resources.crds import CRD_KEY, established_status
from onebox.apiserver.status import already_exists, bad_request, conflict, forbidden, invalid, modified, not_found
from onebox.apiserver.storage.records import ChangeType, Key, Record
from onebox.apiserver.storage.store import Store

Managing = Callable[[tuple[Entry, ...], JsonView, JsonObject, str], tuple[Entry, ...]]
"""(entries so far, old object, new object, now) to the entries after the write."""
_NAME_TRIES = 8
"""How often generateName is tried before the caller is told that the name is taken; Kubernetes tries as often."""
_SERVER = "kube-apiserver"
_WRONG_TYPE = "FieldValueTypeInvalid"


@dataclass(frozen=True, slots=True)
class Written:
    """A decided write: the object as the answer shows it, and when that holds."""

    value: JsonObject
    committed: asyncio.Future[Record] | None
    """None where nothing had to be written: a dry run, or no change."""


def key_of(target: Target, name: str = "") -> Key:
    return Key(target.resource.key, target.namespace, name or target.name)


class Writer:
    """Decides writes against the store's latest state."""

    def __init__(self, store: Store, admissions: Admissions, clock: Clock, rng: random.Random) -> None:
        self._store = store
        self._admissions = admissions
        self._clock = clock
        self._rng = rng
        self._world = World(rng=rng, is_address_taken=ServiceAddresses(store).is_taken)

    def create(
        self, target: Target, value: JsonObject, options: WriteOptions, *, user: str, managing: Managing | None = None
    ) -> Written:
        """Decides on a new object, which has been decoded and shaped already."""
        resource, metadata = target.resource, value["metadata"]
        self._check_namespace(target, metadata.get("name") or metadata.get("generateName", ""))
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        self._begin(target, value)
        now = rfc3339(self._clock.wall_s())
        entries = (managing or _updated_by(target, options))((), resource.strategy.skeleton, value, now)
        self._set_managers(value, entries)
        value = self._admit(target, value, None, user)
        resource.strategy.prepare(value, None, self._world)
        self._validate(target, value, None)
        key = key_of(target, value["metadata"]["name"])
        if self._store.latest(key) is not None:
            raise already_exists(resource.plural, resource.group, key.name)
        if options.dry_run:
            return Written(value, None)
        written = self._submit(target, key, value, ChangeType.ADDED)
        if resource.key == CRD_KEY:
            self._establish(target, key)
        return written

    def update(
        self,
        target: Target,
        old_record: Record,
        value: JsonObject,
        options: WriteOptions,
        *,
        user: str,
        managing: Managing | None = None,
    ) -> Written:
        """Decides on a new state of a stored object, decoded and shaped already."""
        old = parse_object(old_record, target)
        self._check_preconditions(target, value, old)
        resource, strategy = target.resource, target.resource.strategy
        _reset(target, value, old)
        now = rfc3339(self._clock.wall_s())
        entries = (managing or _updated_by(target, options))(_entries_of(value, old), old, value, now)
        self._set_managers(value, entries)
        if not target.subresource:
            value = self._admit(target, value, old, user)
        # After admission: defaults that it fills in again are no change, and a new generation makes a new revision.
        if strategy.generation is Generation.SPEC and _content(value, target) != _content(old, target):
            value["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        strategy.prepare(value, old, self._world)
        # Only now: what admission fills in is no change of what somebody wants.
        if strategy.generation is Generation.SPEC and _content(value, target) != _content(old, target):
            value["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        self._validate(target, value, old)
        if _same(value, old):
            return Written(parse_object(old_record, target), None)
        key = key_of(target)
        if options.dry_run:
            return Written(value, None)
        if _is_released(value):
            return self._submit(target, key, value, ChangeType.DELETED)
        written = self._submit(target, key, value, ChangeType.MODIFIED)
        if resource.key == CRD_KEY and not target.subresource:
            self._establish(target, key)
        return written

    def finalize(self, target: Target, old_record: Record, sent: JsonView) -> Written:
        """Decides on a namespace's remaining finalizers; without any left, a namespace that is being deleted goes."""
        value = parse_object(old_record, target)
        self._check_preconditions(target, sent, value)
        finalizers = (sent.get("spec") or {}).get("finalizers") or []
        value["spec"] = {**(value.get("spec") or {}), "finalizers": finalizers}
        if not finalizers:
            del value["spec"]["finalizers"]
        type_ = ChangeType.DELETED if _is_released(value) else ChangeType.MODIFIED
        return self._submit(target, key_of(target), value, type_)

    def put(self, target: Target, value: JsonObject, type_: ChangeType) -> Written:
        """Queues a state that has been decided elsewhere (deletion, the server's own objects)."""
        return self._submit(target, key_of(target, value["metadata"]["name"]), value, type_)

    def _submit(self, target: Target, key: Key, value: JsonObject, type_: ChangeType) -> Written:
        revision = self._store.next_revision()
        value["metadata"]["resourceVersion"] = str(revision)
        resource = target.resource
        storage_version = resource.api_version(resource.storage)
        record = build_record(key, revision, value, storage_version=storage_version, strategy=resource.strategy)
        return Written(value, self._store.submit(type_, record))

    def _begin(self, target: Target, value: JsonObject) -> None:
        """The server's own metadata of a new object; its status, if it has one of its own, starts empty."""
        metadata = value["metadata"]
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "managedFields"):
            metadata.pop(name, None)
        tidy(metadata)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._free_name(target, metadata["generateName"])
        metadata["uid"] = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        metadata["creationTimestamp"] = rfc3339(self._clock.wall_s())
        if target.resource.strategy.generation is Generation.SPEC:
            metadata["generation"] = 1
        if target.version.has_status:
            value.pop("status", None)
            skeleton = target.resource.strategy.skeleton
            if "status" in skeleton:
                value["status"] = orjson.loads(orjson.dumps(skeleton["status"]))

    def _free_name(self, target: Target, prefix: str) -> str:
        for _ in range(_NAME_TRIES):
            name = generated_name(prefix, self._rng)
            if self._store.latest(key_of(target, name)) is None:
                break
        return name

    def _check_namespace(self, target: Target, name: str) -> None:
        if not target.resource.namespaced:
            return
        record = self._store.latest(Key("namespaces", "", target.namespace))
        if record is None:
            raise not_found("namespaces", "", target.namespace)
        if record.fields.get("status.phase") == "Terminating":
            why = f"unable to create new content in namespace {target.namespace} because it is being terminated"
            message = f"namespace {target.namespace} is being terminated"
            cause = FieldError(field="metadata.namespace", message=message, cause="NamespaceTerminating")
            raise forbidden(target.resource.plural, target.resource.group, name, why, [cause])

    def _check_preconditions(self, target: Target, value: JsonView, old: JsonView) -> None:
        resource, wanted, found = target.resource, value["metadata"], old["metadata"]
        if wanted.get("resourceVersion") and wanted["resourceVersion"] != found["resourceVersion"]:
            raise modified(resource.plural, resource.group, target.name)
        if wanted.get("uid") and wanted["uid"] != found["uid"]:
            why = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {found['uid']}"
            raise conflict(resource.plural, resource.group, target.name, why)

    def _set_managers(self, value: JsonObject, entries: Iterable[Entry]) -> None:
        rendered = render_entries(entries)
        if rendered:
            value["metadata"]["managedFields"] = rendered
        else:
            value["metadata"].pop("managedFields", None)

    def _admit(self, target: Target, value: JsonObject, old: JsonView | None, user: str) -> JsonObject:
        resource = target.resource
        admit = self._admissions.of(resource.group, resource.kind)
        if admit is None:
            return value
        others = self._others(target, value) if (resource.group, resource.kind) in LOOKS_AT_OTHERS else ()
        request = AdmissionRequest(
            operation=Operation.CREATE if old is None else Operation.UPDATE,
            group=resource.group,
            kind=resource.kind,
            namespace=target.namespace,
            name=value["metadata"].get("name", ""),
            object=value,
            old=old,
            user=user,
            subresource=target.subresource,
            others=others,
        )
        try:
            return admit(request)
        except Invalid as error:
            raise invalid(resource.kind, resource.group, request.name, error.errors) from error
        except UserError as error:
            raise bad_request(error.message) from error
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Admission comes before the schema, as in Kubernetes, and may stumble over a field of the wrong type.
            wrong = target.version.schemas.structural.validate(value)
            if not wrong:
                raise
            raise invalid(resource.kind, resource.group, request.name, wrong) from error

    def _others(self, target: Target, value: JsonView) -> tuple[JsonView, ...]:
        records = self._store.select(target.resource.key, target.namespace)
        name = value["metadata"].get("name")
        return tuple(orjson.loads(record.data) for record in records if record.key.name != name)

    def _validate(self, target: Target, value: JsonView, old: JsonView | None) -> None:
        resource, metadata = target.resource, value["metadata"]
        name = metadata.get("name", "")
        errors: list[FieldError] = []
        if not name:
            message = "Required value: name or generateName is required"
            errors.append(FieldError(field="metadata.name", message=message, cause="FieldValueRequired"))
        elif old is None:
            errors += name_errors(name, resource.key)
        errors += meta_errors(metadata, None if old is None else old["metadata"], custom=resource.custom)
        found = target.version.schemas.structural.validate(value)
        if resource.strategy.typed:
            wrong = next((error for error in found if error.cause == _WRONG_TYPE), None)
            if wrong is not None:
                raise cannot_decode(target, f"json: cannot unmarshal into Go struct field {resource.kind}.{wrong}")
        errors += found
        # A kind's own rules may rely on the shape that the schema promises.
        if not found:
            errors += resource.strategy.validate(value, old)
        if errors:
            raise invalid(resource.kind, resource.group, name, errors)

    def _establish(self, target: Target, key: Key) -> None:
        """Follows a definition's write with the status that says that its kind is served."""
        record = self._store.latest(key)
        assert record is not None
        value: JsonObject = orjson.loads(record.data)
        now = rfc3339(self._clock.wall_s())
        status = established_status(value, now)
        if (value.get("status") or {}).get("acceptedNames") == status["acceptedNames"]:
            return
        old = {**value, "status": value.get("status") or {}}
        value["status"] = status
        manager = Manager(name=_SERVER, operation=UPDATE, api_version=target.api_version, subresource="status")
        root = target.version.schemas.structural.root
        entries = after_update(_entries_of(value, old), old, value, node=root, manager=manager, time=now)
        self._set_managers(value, entries)
        self._submit(target, key, value, ChangeType.MODIFIED)


def _updated_by(target: Target, options: WriteOptions) -> Managing:
    manager = Manager(
        name=options.manager, operation=UPDATE, api_version=target.api_version, subresource=target.subresource
    )
    root = target.version.schemas.structural.root

    def managing(entries: tuple[Entry, ...], old: JsonView, new: JsonObject, now: str) -> tuple[Entry, ...]:
        return after_update(entries, old, new, node=root, manager=manager, time=now)

    return managing


def _entries_of(value: JsonView, old: JsonView) -> tuple[Entry, ...]:
    """The managers to start from: the writer may reset them with an empty entry, or edit them; nonsense is ignored."""
    sent = value["metadata"].get("managedFields")
    if sent == [{}]:
        return ()
    return parse_entries(sent) or parse_entries(old["metadata"].get("managedFields")) or ()


def _reset(target: Target, value: JsonObject, old: JsonObject) -> None:
    """Takes back what this path may not change: status by the main path; all but status by /status."""
    metadata, old_metadata = value["metadata"], old["metadata"]
    carry_over(metadata, old_metadata)
    if target.subresource == "status":
        kept = {name: metadata.get(name) for name in target.resource.strategy.status_keeps}
        managed = metadata.get("managedFields")
        status = value.get("status")
        value.clear()
        value.update({**old, "metadata": {**old_metadata, **kept, "managedFields": managed}})
        value.pop("status", None)
        if status is not None:
            value["status"] = status
    elif target.version.has_status and target.subresource != "finalize":
        value.pop("status", None)
        if "status" in old:
            value["status"] = old["status"]
    tidy(value["metadata"])
    value["metadata"]["resourceVersion"] = old_metadata["resourceVersion"]


def _content(value: JsonView, target: Target) -> JsonObject:
    """What generation counts changes of; a status without a path of its own is content like any other."""
    apart = ("apiVersion", "kind", "metadata", *(("status",) if target.version.has_status else ()))
    return {name: inner for name, inner in value.items() if name not in apart}


def _same(value: JsonView, old: JsonView) -> bool:
    """Nothing changed, times of managers not counted."""
    return {**value, "metadata": _without_times(value)} == {**old, "metadata": _without_times(old)}


def _without_times(value: JsonView) -> JsonObject:
    metadata = dict(value["metadata"])
    entries = metadata.get("managedFields") or []
    metadata["managedFields"] = [{**entry, "time": ""} for entry in entries]
    return metadata


def _is_released(value: JsonView) -> bool:
    """Nothing keeps an object any more that was waiting for its finalizers."""
    metadata = value["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if value["kind"] == "Namespace" and (value.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")
