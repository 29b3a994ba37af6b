"""The one shape of an admission decision, shared by the embedded API server, the cluster's webhook and the CLI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.base.json import JsonObject, JsonView


class Operation(StrEnum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRequest:
    """An object that somebody wants stored. `object` passed the schema already; `old` is what it would replace."""

    operation: Operation
    group: str
    kind: str
    namespace: str
    name: str
    object: JsonView
    old: JsonView | None = None
    user: str = ""
    subresource: str = ""
    others: tuple[JsonView, ...] = ()
    """The other objects of this kind and namespace, for the kinds in `LOOKS_AT_OTHERS`; () for all others."""


LOOKS_AT_OTHERS: Final = frozenset(
    {("serving.kserve.io", "ServingRuntime"), ("serving.kserve.io", "ClusterServingRuntime")}
)
"""Groups and kinds whose admission depends on the other objects of the kind."""

Admit = Callable[[AdmissionRequest], JsonObject]
"""Returns the object as it is to be stored (defaults filled in); raises `errors.Invalid` where it is refused."""
