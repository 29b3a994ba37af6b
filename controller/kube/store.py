"""What an informer knows: objects by name, indexes over them, and which version of an object wins. (pure)

Versions are compared as numbers. Kubernetes promises that order for its own objects since 1.35 (KEP-5504) and has kept it
always; onebox's API server numbers its revisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from controller.base.json import JsonView

ObjectKey = tuple[str, str]
"""Namespace ("" for cluster-scoped objects) and name."""
KeysOf = Callable[[JsonView], Iterable[str]]


class ChangeKind(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one object. `object` is the newest state known, of a DELETED one the last; `old` what was known before."""

    kind: ChangeKind
    object: JsonView
    old: JsonView | None = None


class Index:
    """Objects by keys that a function finds in them; an object may stand under several keys or none."""

    def __init__(self, keys_of: KeysOf) -> None:
        self._keys_of = keys_of
        # The inner mapping is a set that keeps its order, so that answers are the same in every run.
        self._objects: dict[str, dict[ObjectKey, JsonView]] = {}

    def change(self, key: ObjectKey, old: JsonView | None, new: JsonView | None) -> None:
        """Takes `old` out and puts `new` in."""
        if old is not None:
            for entry in self._keys_of(old):
                group = self._objects.get(entry)
                if group is not None:
                    group.pop(key, None)
                    if not group:
                        del self._objects[entry]
        if new is not None:
            for entry in self._keys_of(new):
                self._objects.setdefault(entry, {})[key] = new

    def get(self, key: str) -> list[JsonView]:
        return list(self._objects.get(key, {}).values())


class Store:
    """The newest known state of every object of one kind. Takes steps in any order; a stale one changes nothing."""

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, JsonView] = {}
        self._indexes: dict[str, Index] = {}
        self._by_namespace = Index(lambda item: (key_of(item)[0],))
        self.version = 0
        """Highest version that a list or a watch brought: whatever is older has been seen."""

    def get(self, key: ObjectKey) -> JsonView | None:
        return self._objects.get(key)

    def items(self, namespace: str | None = None) -> list[JsonView]:
        return list(self._objects.values()) if namespace is None else self._by_namespace.get(namespace)

    def add_index(self, name: str, keys_of: KeysOf) -> None:
        """An index over what is there and what comes."""
        assert name not in self._indexes, f"index {name} exists"
        index = Index(keys_of)
        for key, item in self._objects.items():
            index.change(key, None, item)
        self._indexes[name] = index

    def indexed(self, name: str, key: str) -> list[JsonView]:
        return self._indexes[name].get(key)

    def replace(self, items: Iterable[JsonView], version: int) -> list[Change]:
        """Takes a whole list, and says what it changed: events that a broken watch never delivered."""
        changes: list[Change] = []
        listed: set[ObjectKey] = set()
        for item in items:
            listed.add(key_of(item))
            changes += self.take(item)
        for key, known in list(self._objects.items()):
            # What we wrote ourselves after the list was made is missing from it, and there all the same.
            if key not in listed and version_of(known) <= version:
                self._set(key, None)
                changes.append(Change(ChangeKind.DELETED, known, known))
        self.pass_version(version)
        return changes

    def observe(self, item: JsonView, *, deleted: bool) -> list[Change]:
        """Takes one event of a watch."""
        changes = self._drop(item) if deleted else self.take(item)
        self.pass_version(version_of(item))
        return changes

    def pass_version(self, version: int) -> None:
        """Notes that everything up to `version` has been seen."""
        self.version = max(self.version, version)

    def remember(self, item: JsonView) -> list[Change]:
        """Takes the answer to a write of our own, unless the watch went past it already."""
        if key_of(item) not in self._objects and version_of(item) <= self.version:
            return []  # Created and deleted again before the answer to our write was read.
        return self.take(item)

    def take(self, item: JsonView) -> list[Change]:
        """Takes this state where it is newer than the known one."""
        key = key_of(item)
        known = self._objects.get(key)
        if known is None:
            self._set(key, item)
            return [Change(ChangeKind.ADDED, item)]
        if version_of(item) <= version_of(known):
            return []
        self._set(key, item)
        if uid_of(item) != uid_of(known):
            # Deleted and created again between two lists; whoever watches the first one must learn of its end.
            return [Change(ChangeKind.DELETED, known, known), Change(ChangeKind.ADDED, item)]
        return [Change(ChangeKind.MODIFIED, item, known)]

    def _drop(self, item: JsonView) -> list[Change]:
        key = key_of(item)
        known = self._objects.get(key)
        if known is None or version_of(known) > version_of(item):
            return []
        self._set(key, None)
        return [Change(ChangeKind.DELETED, item, known)]

    def _set(self, key: ObjectKey, item: JsonView | None) -> None:
        known = self._objects.get(key)
        self._by_namespace.change(key, known, item)
        for index in self._indexes.values():
            index.change(key, known, item)
        if item is None:
            del self._objects[key]
        else:
            self._objects[key] = item


def key_of(item: JsonView) -> ObjectKey:
    meta = item["metadata"]
    return meta.get("namespace") or "", meta["name"]


def version_of(item: JsonView) -> int:
    """`metadata.resourceVersion` as a number; 0 where it is none."""
    text = str(item["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdecimal() else 0


def uid_of(item: JsonView) -> str:
    return str(item["metadata"].get("uid") or "")
