"""The values that storage hands out; all immutable, so that lists and watches can hold them without copying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Key:
    """Where an object lives; `resource` is its plural and group (`pods`, `deployments.apps`), `namespace` "" for none."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Record:
    """One version of one object. `data` is its JSON; what selectors look at has been taken out of it."""

    key: Key
    revision: int
    data: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]
    """Selectable fields of its kind, `metadata.name` and `metadata.namespace` not among them."""


class ChangeType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change:
    """One step of history. A deletion's record is the object's last state, with the deletion's own revision."""

    type: ChangeType
    record: Record
    previous: Record | None = None
    """What it replaced; None for an addition, and where history was cut before it."""
