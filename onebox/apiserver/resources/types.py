"""A kind as the API server serves it: names, versions, schema, subresources, columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.api.structural import StructuralSchema
from controller.base.json import JsonView
from onebox.apiserver.kinds.strategy import Strategy
from onebox.apiserver.status import qualified

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of `kubectl get`, as a CRD declares it."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0
    path: str = ""
    """JSONPath; empty for columns of built-in kinds, which code fills in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePaths:
    """Where the scale subresource finds its numbers; steps without the leading dot (`spec.replicas`)."""

    spec: str
    status: str
    selector: str = ""


class Schemas:
    """A schema that is compiled when somebody first asks, and described as OpenAPI on demand."""

    def __init__(self, compile_: Callable[[], StructuralSchema], describe: Callable[[], JsonView]) -> None:
        self._compile = compile_
        self._compiled: StructuralSchema | None = None
        self.describe = describe
        """The OpenAPI schema of the kind, read anew each time: nobody needs it often."""

    @property
    def structural(self) -> StructuralSchema:
        if self._compiled is None:
            self._compiled = self._compile()
        return self._compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a kind."""

    name: str
    schemas: Schemas
    served: bool = True
    has_status: bool = False
    scale: ScalePaths | None = None
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind in all its versions."""

    group: str
    plural: str
    kind: str
    versions: Mapping[str, Version]
    storage: str
    """The version in which objects are stored."""
    namespaced: bool = True
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """Special ones beside status and scale: (name, kind, verbs)."""
    strategy: Strategy = field(default_factory=Strategy)
    custom: bool = False
    verbs: tuple[str, ...] = ALL_VERBS

    @property
    def key(self) -> str:
        """Its name in storage: `pods`, `deployments.apps`."""
        return qualified(self.plural, self.group)

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version
