"""What a decision about one object consists of: children to have, status to show, events to tell. Values only. (pure)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from controller.base.json import JsonView
from controller.kube.resources import ResourceType


class Key(NamedTuple):
    """The object that a reconcile is about; all that a queue holds. `namespace` is "" for cluster-scoped kinds."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a reconcile ended well."""

    requeue_after_s: float | None = None
    """Look again after this time, even if nothing changes; None: only when something changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """An object that another one is made of, as it should be or as it is."""

    resource: ResourceType
    manifest: JsonView
    """The whole object: apiVersion, kind, name, namespace and ownerReferences included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something to tell people about an object."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one object should lead to."""

    children: tuple[Child, ...] = ()
    """All children that should exist. Others that the object controls are deleted."""
    keep_children: bool = False
    """Touch no child, whatever `children` says: the object is wrong, and what runs must go on."""
    status: JsonView | None = None
    """The whole status; None leaves the stored one."""
    events: tuple[Event, ...] = ()
    """Told only if something else is written as well, so that a quiet world stays quiet."""
    finalizers: tuple[str, ...] | None = None
    """All finalizers; None leaves the stored ones."""
    requeue_after_s: float | None = None
