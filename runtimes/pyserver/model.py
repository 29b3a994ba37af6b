"""A user's model class, served: found, made and loaded when the server loads it, and from the beginning each time."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladle.errors import BadModel
from ladle.protocol.messages import ModelMetadata
from ladle.server.execution import in_daemon_thread
from ladle.server.hooks import Step
from ladle.server.model import Model
from runtimes.pyserver.classes import find_class, is_kserve_class, make
from runtimes.pyserver.imports import FILE, import_model_file, import_named
from runtimes.pyserver.requirements import check_requirements


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's code is."""

    name: str
    directory: Path
    model_class: str = ""
    """MODULE:CLASS; empty for the only model class in the directory's model.py."""
    arguments: Mapping[str, object] = field(default_factory=dict)
    """What else a constructor may ask for, by parameter name."""


def plan_sources(source: Source, folders: Sequence[str]) -> list[Source]:
    """One model for each of the `folders` that have a model.py, named like them; the directory itself where none has."""
    if source.model_class or not folders:
        return [source]
    return [Source(name, source.directory / name, "", source.arguments) for name in sorted(folders)]


def folders_of_models(directory: Path) -> list[str]:
    """Folders with a model.py, where the directory has none itself."""
    if not directory.is_dir() or (directory / FILE).is_file():
        return []
    return [path.parent.name for path in directory.glob(f"*/{FILE}")]


class PythonModel(Model):
    """Stands for the user's model from before it is loaded until after it is unloaded."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.name)
        self.directory = source.directory
        self._source = source
        self._model: Model | None = None

    async def load(self) -> None:  # type: ignore[override]  # The server awaits a `load` that is a coroutine function.
        """Imports, makes and loads the model; BadModel where there is none, else whatever its own code raises."""
        self._model = None
        made: list[Model] = []
        await in_daemon_thread(lambda: made.append(make_model(self._source)))
        (model,) = made
        result: Any = model.load() if inspect.iscoroutinefunction(model.load) else in_daemon_thread(model.load)
        await result
        self._model, self.thread_safe, self.accepts_raw = model, model.thread_safe, model.accepts_raw

    def steps(self, verb: str) -> Sequence[Step]:
        return super().steps(verb) if self._model is None else self._model.steps(verb)

    def healthy(self) -> bool:
        return self._model is None or self._model.healthy()

    def metadata(self) -> ModelMetadata:
        return super().metadata() if self._model is None else self._model.metadata()

    def config(self) -> Mapping[str, Any]:
        return {} if self._model is None else self._model.config()

    def unload(self) -> None:
        if self._model is not None:
            self._model.unload()
            self._model = None


def make_model(source: Source) -> Model:
    """The user's model, made and not loaded; BadModel that says which file, which class and what was found."""
    directory = source.directory.resolve()
    if not directory.is_dir():
        raise BadModel(f"{source.directory} is no directory")
    check_requirements(directory)
    module_name, _, class_name = source.model_class.partition(":")
    if module_name:
        kind = find_class(import_named(module_name, directory), class_name, f"module {module_name}")
    else:
        kind = find_class(import_model_file(directory), class_name, str(directory / FILE))
    made = make(kind, {"name": source.name, "model_name": source.name, "model_dir": str(directory), **source.arguments})
    if is_kserve_class(kind):
        from ladle.kserve_compat.model import KserveModel  # Only where kserve is, which takes seconds to import.

        return KserveModel(made, source.name)
    made.directory = directory
    model: Model = made
    return model
