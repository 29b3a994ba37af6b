"""Which class in a user's module is the model, and how one of it is made."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ladle.errors import BadModel
from ladle.server.model import Model

_LISTED_MAX = 10
"""Names that a complaint lists."""


def find_class(module: ModuleType, wanted: str, where: str) -> type[Any]:
    """The class called `wanted`, or the only model class where that is empty; BadModel that says what was found.

    A class that another one of the module extends is not a model but its base.
    """
    classes = {name: value for name, value in vars(module).items() if inspect.isclass(value)}
    own = {name: value for name, value in classes.items() if value.__module__ == module.__name__}
    if wanted:
        return _named(classes, wanted, f"{where}, which has {_names(own)}")
    imported = [value for value in classes.values() if is_model_class(value) and not _is_library(value)]
    models = [value for value in own.values() if is_model_class(value)] or imported
    leaves = [value for value in models if not any(other is not value and issubclass(other, value) for other in models)]
    if not leaves:
        raise BadModel(f"{where} has no subclass of ladle.Model or kserve.Model: found {_names(own)}")
    if len(leaves) > 1:
        names = ", ".join(sorted(value.__name__ for value in leaves))
        raise BadModel(
            f"{where} has several models: {names}; say which one with --model_class model:{leaves[0].__name__}"
        )
    return leaves[0]


def _named(classes: Mapping[str, type[Any]], wanted: str, where: str) -> type[Any]:
    found = classes.get(wanted)
    if found is None:
        raise BadModel(f"there is no class {wanted} in {where}")
    if not is_model_class(found):
        bases = ", ".join(base.__name__ for base in found.__mro__[1:-1]) or "nothing"
        raise BadModel(f"the class {wanted} is no subclass of ladle.Model or kserve.Model: it extends {bases}")
    return found


def _names(classes: Mapping[str, type[Any]]) -> str:
    names = sorted(classes)
    return f"the classes {', '.join(names[:_LISTED_MAX])}" if names else "no class"


def is_model_class(value: type[Any]) -> bool:
    """Whether it extends ladle.Model, or KServe's, told without importing kserve."""
    return issubclass(value, Model) or is_kserve_class(value)


def is_kserve_class(value: type[Any]) -> bool:
    kserve = sys.modules.get("kserve.model")
    return kserve is not None and issubclass(value, kserve.InferenceModel)


def _is_library(value: type[Any]) -> bool:
    return value.__module__.partition(".")[0] in ("ladle", "kserve", "typing")


def make(kind: type[Any], known: Mapping[str, object]) -> Any:
    """An instance, given those of the `known` arguments that its constructor takes; BadModel where it needs others."""
    parameters = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.VAR_POSITIONAL]
    named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and "model_name" not in named:
        named.add("name")
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    unknown = [name for name in needed if name not in known]
    if unknown:
        raise BadModel(
            f"{kind.__name__}() needs {', '.join(unknown)}, which the server does not know: give it a default; "
            f"known are {', '.join(known)}"
        )
    made = kind(**{name: value for name, value in known.items() if name in named})
    made.name = known["name"]
    return made
