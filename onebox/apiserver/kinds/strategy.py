"""The questions that the generic write path asks a kind. A kind answers some of them; the rest keep their defaults."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView


@dataclass(frozen=True, slots=True)
class World:
    """What a kind may ask about the rest of the cluster while an object is prepared."""

    rng: random.Random
    is_address_taken: Callable[[str], bool]
    """Whether a service has this cluster IP."""


class Deletion(StrEnum):
    """How an object goes away."""

    AT_ONCE = "AtOnce"
    GRACEFUL = "Graceful"
    """Pods: marked first; the node deletes it for good."""
    EMPTIED = "Emptied"
    """Namespaces: marked first; gone when their content is."""


class Generation(StrEnum):
    """When metadata.generation counts."""

    NEVER = "Never"
    SPEC = "Spec"
    """On changes of anything but metadata and status."""


def _nothing(_: JsonObject) -> None:
    return None


def _no_preparation(_new: JsonObject, _old: JsonView | None, _world: World) -> None:
    return None


def _no_errors(_new: JsonView, _old: JsonView | None) -> Iterable[FieldError]:
    return ()


def _no_fields(_: JsonView) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How objects of one kind are treated beyond what their schema says."""

    complete: Callable[[JsonObject], None] = _nothing
    """Defaults that depend on other fields; the writer owns them, as if it had sent them."""
    prepare: Callable[[JsonObject, JsonView | None, World], None] = _no_preparation
    """What the server fills in and nobody owns; `old` is None for a creation."""
    validate: Callable[[JsonView, JsonView | None], Iterable[FieldError]] = _no_errors
    """Errors beyond the schema's; for updates also against the stored object."""
    fields: Callable[[JsonView], Mapping[str, str]] = _no_fields
    """Selectable fields of an object."""
    selectable: tuple[str, ...] = ()
    """Names of the selectable fields, those of metadata not counted."""
    skeleton: JsonView = field(default_factory=dict)
    """The parts that Kubernetes' own representation always has, so that nobody owns them by creating an object."""
    generation: Generation = Generation.NEVER
    deletion: Deletion = Deletion.AT_ONCE
    status_keeps: tuple[str, ...] = ()
    """Metadata (labels, annotations) that a write through /status may change too."""
    typed: bool = True
    """A built-in kind: null and empty values count as absent, and a wrong type is a decoding error (400)."""
