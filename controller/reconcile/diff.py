"""What must be written so that the world matches a plan; in a quiet world that is nothing. (pure)

An object needs a server-side apply when a field that we want is missing or different, or when we still own a field that we
no longer want. Fields that others added are theirs. Which is which stands in the object's managedFields; they also tell
lists with keys (containers by name) from lists that are one value. Inside a value that is one piece (an atomic list or map)
ownership is not recorded field by field, so an extra field there is a difference, unless servers are known to fill it in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

import orjson

from controller.api.quantity import quantity_or_none
from controller.base.errors import UserError
from controller.base.json import JsonObject, JsonView
from controller.kube.resources import ResourceType
from controller.reconcile.plan import Child, Event, Plan

Fields: TypeAlias = Mapping[str, Any]
"""A part of managedFields' fieldsV1: `f:name` for fields, `k:{...}` and `v:...` for list items, `.` for the item itself."""
Key: TypeAlias = tuple[tuple[str, Any], ...]
"""What tells the items of a list apart: names of fields and their values."""

_KEYS_MAX = 4_096
"""Keys of list items kept parsed; there are as many as names of containers, variables and ports, which repeat."""
_EQUAL_MAX = 10_000
"""Children remembered as equal; several for each of 1,000 objects, 300 bytes each."""
_NOT_APPLIED = ("apiVersion", "kind", "status")
"""Top-level fields that an apply of a child does not decide."""
_NAMING = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
"""Fields of metadata that say which object it is, not what it should be."""
_QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})
"""Fields whose values servers rewrite to their canonical form: `1000m` comes back as `1`."""
_FILLED_IN: Mapping[str, tuple[Any, ...]] = {
    # Knative's webhook (serving/v1 defaulting) and Kubernetes' (core/v1 defaults) put these into containers and volumes.
    "name": ("user-container",),
    "protocol": ("TCP",),
    "resources": ({},),
    "imagePullPolicy": ("IfNotPresent", "Always"),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "readinessProbe": ({"successThreshold": 1, "tcpSocket": {"port": 0}},),
    "tcpSocket": ({"port": 0},),
    "successThreshold": (1,),
    "failureThreshold": (3,),
    "periodSeconds": (10,),
    "timeoutSeconds": (1,),
    "scheme": ("HTTP",),
    "defaultMode": (420,),
    "apiVersion": ("v1",),
    "optional": (False,),
}


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of this child, whole."""

    child: Child


@dataclass(frozen=True, slots=True)
class Delete:
    resource: ResourceType
    name: str
    namespace: str | None
    uid: str


@dataclass(frozen=True, slots=True)
class Status:
    """A merge patch of the owner's status subresource."""

    patch: JsonObject


@dataclass(frozen=True, slots=True)
class Finalizers:
    """The owner's finalizers, all of them, if the owner still has this version."""

    finalizers: tuple[str, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Tell:
    event: Event


Write: TypeAlias = Apply | Delete | Status | Finalizers | Tell


_SCALARS = (str, int, float)


class Comparisons:
    """`differs` for one field manager. Remembers what it found equal, for most looks at an object find nothing new."""

    def __init__(self, field_manager: str) -> None:
        self._field_manager = field_manager
        self._equal: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        """By uid: the version of the stored object, and a digest of what was compared with it."""

    def differ(self, desired: JsonView, live: JsonView) -> bool:
        """Whether a server-side apply of `desired` would change `live`."""
        meta, digest = live["metadata"], blake2b(orjson.dumps(desired), digest_size=16).digest()
        uid, state = str(meta.get("uid")), (str(meta.get("resourceVersion")), digest)
        if self._equal.get(uid) == state:
            self._equal.move_to_end(uid)
            return False
        if differs(desired, live, field_manager=self._field_manager):
            return True
        self._equal[uid] = state
        if len(self._equal) > _EQUAL_MAX:
            self._equal.popitem(last=False)
        return False


def plan_writes(
    plan: Plan, owner: JsonView, live_children: Iterable[Child], comparisons: Comparisons
) -> tuple[Write, ...]:
    """The writes that lead from what is there to `plan`, in the order in which they are safe; () where it is there.

    `live_children` are the objects that `owner` controls, and those that stand where a planned child should. UserError
    NotOwned where somebody else controls such a one.
    """
    live = {_place(child): child for child in live_children}
    writes: list[Write] = []
    if not plan.keep_children and not owner["metadata"].get("deletionTimestamp"):
        writes += _applies(plan.children, live, owner, comparisons)
    status_patch = merge_patch(owner.get("status") or {}, plan.status) if plan.status is not None else None
    if status_patch:
        writes.append(Status({"status": status_patch}))
    if not plan.keep_children and not owner["metadata"].get("deletionTimestamp"):
        writes += _deletes(plan.children, live, owner)
    writes = _with_finalizers(writes, plan, owner)
    return (*writes, *(Tell(event) for event in plan.events)) if writes else ()


def differs(desired: JsonView, live: JsonView, *, field_manager: str) -> bool:
    """Whether a server-side apply of `desired` by this manager would change `live`, as far as can be told from here."""
    wanted = {name: value for name, value in desired.items() if name not in _NOT_APPLIED}
    wanted["metadata"] = {name: value for name, value in (desired.get("metadata") or {}).items() if name not in _NAMING}
    return _differs(wanted, live, _applied_fields(live, field_manager))


def merge_patch(old: JsonView, new: JsonView) -> JsonObject:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`; {} where they are equal."""
    patch: JsonObject = {name: None for name in old if name not in new}
    for name, value in new.items():
        if name not in old:
            patch[name] = value
        elif isinstance(value, Mapping) and isinstance(old[name], Mapping):
            inner = merge_patch(old[name], value)
            if inner:
                patch[name] = inner
        elif not _equal(value, old[name]):
            patch[name] = value
    return patch


def _applies(
    children: Sequence[Child], live: Mapping[tuple[str, ...], Child], owner: JsonView, comparisons: Comparisons
) -> list[Write]:
    writes: list[Write] = []
    for child in children:
        known = live.get(_place(child))
        if known is None:
            writes.append(Apply(child))
            continue
        _check_owned(known, owner)
        # A child that is being deleted is not revived: its end brings the owner back, and then it is missing.
        terminating = known.manifest["metadata"].get("deletionTimestamp")
        if not terminating and comparisons.differ(child.manifest, known.manifest):
            writes.append(Apply(child))
    return writes


def _deletes(children: Sequence[Child], live: Mapping[tuple[str, ...], Child], owner: JsonView) -> list[Write]:
    wanted = {_place(child) for child in children}
    writes: list[Write] = []
    for place, child in live.items():
        meta = child.manifest["metadata"]
        if (
            place in wanted
            or meta.get("deletionTimestamp")
            or _controller_uid(child.manifest) != owner["metadata"].get("uid")
        ):
            continue
        writes.append(Delete(child.resource, meta["name"], meta.get("namespace"), meta["uid"]))
    return writes


def _with_finalizers(writes: list[Write], plan: Plan, owner: JsonView) -> list[Write]:
    current = tuple(owner["metadata"].get("finalizers") or ())
    if plan.finalizers is None or set(plan.finalizers) == set(current):
        return writes
    write = Finalizers(plan.finalizers, str(owner["metadata"].get("resourceVersion", "")))
    # A finalizer promises a clean-up, so it comes before what must be cleaned up; it goes when all else is done.
    return [write, *writes] if set(plan.finalizers) > set(current) else [*writes, write]


def _place(child: Child) -> tuple[str, ...]:
    meta = child.manifest["metadata"]
    return child.resource.group, child.resource.plural, meta.get("namespace") or "", meta["name"]


def _check_owned(known: Child, owner: JsonView) -> None:
    controller_uid = _controller_uid(known.manifest)
    if controller_uid and controller_uid != owner["metadata"].get("uid"):
        meta = known.manifest["metadata"]
        where = f"{known.resource.kind} {meta.get('namespace') or ''}/{meta['name']}"
        raise UserError("NotOwned", f"{where} exists and another object controls it; rename one of the two")


def _controller_uid(manifest: JsonView) -> str | None:
    references = manifest["metadata"].get("ownerReferences") or ()
    return next((reference.get("uid") for reference in references if reference.get("controller")), None)


def _applied_fields(live: JsonView, field_manager: str) -> Fields | None:
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") == field_manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Fields = entry.get("fieldsV1") or {}
            return fields
    return None


def _differs(desired: Any, live: Any, owned: Fields | None, *, quantity: bool = False) -> bool:
    if isinstance(desired, _SCALARS):  # Most of what there is, and looking at types costs more than comparing.
        return not _equal(desired, live, quantity=quantity)
    if _is_empty(desired) and _is_empty(live):
        return bool(owned) and not _is_leaf(owned)
    if isinstance(desired, dict) and isinstance(live, dict):
        if _is_leaf(owned):
            return _piece_differs(desired, live, quantity=quantity)
        return _map_differs(desired, live, owned, quantity=quantity)
    if isinstance(desired, list) and isinstance(live, list):
        if owned is not None and any(name.startswith(("k:", "v:")) for name in owned):
            return _keyed_list_differs(desired, live, owned)
        return _piece_differs(desired, live)
    return not _equal(desired, live, quantity=quantity)


def _map_differs(desired: JsonView, live: JsonView, owned: Fields | None, *, quantity: bool) -> bool:
    claimed = 0
    for name, value in desired.items():
        inner = owned.get("f:" + name) if owned is not None else None
        claimed += inner is not None
        if _differs(value, live.get(name), inner, quantity=quantity or name in _QUANTITIES):
            return True
    # Whether all that we own was wanted shows from the numbers, which is much cheaper than comparing names.
    if not owned or claimed == len(owned) - ("." in owned):
        return False
    return any(name.startswith("f:") and name[2:] not in desired for name in owned)


def _keyed_list_differs(desired: Sequence[Any], live: Sequence[Any], owned: Fields) -> bool:
    sets = {name[2:] for name in owned if name.startswith("v:")}
    if sets:
        wanted = {orjson.dumps(value).decode() for value in desired}
        return bool(wanted - {orjson.dumps(value).decode() for value in live}) or bool(sets - wanted)
    unclaimed = {_parse_key(name): name for name in owned if name.startswith("k:")}
    key_names = tuple(part for part, _ in next(iter(unclaimed)))
    for position, item in enumerate(desired):
        key = tuple((part, item[part]) for part in key_names if part in item)
        if key not in unclaimed:  # It leaves a part of its key to the server, or is not ours yet.
            key = next((known for known in unclaimed if _has_key(item, known)), key)
        name = unclaimed.pop(key, None)
        found = _item_with(key, live, position)
        if found is None or _differs(item, found, owned[name] if name is not None else None):
            return True
    return bool(unclaimed)


@lru_cache(maxsize=_KEYS_MAX)
def _parse_key(name: str) -> Key:
    """The key in a name like `k:{"containerPort":8080,"protocol":"TCP"}`."""
    return tuple(orjson.loads(name[2:]).items())


def _item_with(key: Key, items: Sequence[Any], position: int) -> Any | None:
    if position < len(items) and _has_key(items[position], key):  # Servers keep the order, nearly always.
        return items[position]
    return next((item for item in items if _has_key(item, key)), None)


def _has_key(item: JsonView, key: Key) -> bool:
    # A part of the key that the item leaves out is filled in by the server (a port's protocol).
    for part, value in key:  # noqa: SIM110  # Not all(): a generator for each pair of items costs more than the rest.
        if item.get(part, value) != value:
            return False
    return True


def _piece_differs(desired: Any, live: Any, *, quantity: bool = False) -> bool:
    if isinstance(desired, _SCALARS):
        return not _equal(desired, live, quantity=quantity)
    if _is_empty(desired) and _is_empty(live):
        return False
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        for name, value in live.items():
            if name not in desired and not _is_empty(value) and value not in _FILLED_IN.get(name, ()):
                return True
        return any(
            _piece_differs(value, live.get(name), quantity=quantity or name in _QUANTITIES)
            for name, value in desired.items()
        )
    if isinstance(desired, list) and isinstance(live, list):
        pairs = zip(desired, live, strict=False)
        return len(desired) != len(live) or any(_piece_differs(left, right) for left, right in pairs)
    return not _equal(desired, live, quantity=quantity)


def _is_leaf(owned: Fields | None) -> bool:
    return owned is not None and not owned


def _is_empty(value: Any) -> bool:
    return value is None or (not value and isinstance(value, Mapping | list))


def _equal(left: Any, right: Any, *, quantity: bool = False) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if left == right:
        return True
    if not quantity:
        return False
    amounts = quantity_or_none(left), quantity_or_none(right)
    return amounts[0] is not None and amounts[0] == amounts[1]
