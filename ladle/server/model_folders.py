"""Several models in one server: a directory with a folder for each, as KServe's model repositories have it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ladle.server.model import Model


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """The models below `directory`, each named like its folder; new folders may appear while the server runs."""

    directory: Path
    holds: Callable[[Path], bool]
    """Whether a folder has a model's files."""
    make: Callable[[str, Path], Model]
    """The model of that name in that folder, not loaded yet."""

    def names(self) -> list[str]:
        """Folders that hold a model now, sorted."""
        if not self.directory.is_dir():
            return []
        return sorted(path.name for path in self.directory.iterdir() if self.has(path.name))

    def has(self, name: str) -> bool:
        """Whether a model of that name lies there. Names come from clients: one that is a path is none."""
        folder = self.directory / name
        return folder.parent == self.directory and folder.name == name and folder.is_dir() and self.holds(folder)

    def open(self, name: str) -> Model:
        """The model of a name that `has` knows, not loaded yet."""
        folder = self.directory / name
        model = self.make(name, folder)
        model.directory = folder
        return model


def has_file(folder: Path, extensions: tuple[str, ...]) -> bool:
    """Whether a file with one of these endings lies in the folder itself."""
    return any(path.suffix in extensions and path.is_file() for path in folder.iterdir())


def plan_models(name: str, folders: ModelFolders) -> Model | ModelFolders:
    """`folders` where the directory holds no model itself and its folders do; else the directory's own model, called `name`.

    A directory without any is that too: its model's `load` says what was expected and what is there.
    """
    directory = folders.directory
    if not directory.is_dir() or folders.holds(directory) or not folders.names():
        return folders.make(name, directory)
    return folders
