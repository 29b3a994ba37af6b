"""Triton's layout of models: in a model's folder numbered ones, of which the highest is served; a repository is a folder
with a model's folder in it."""

from __future__ import annotations

from pathlib import Path


def newest_version(directory: Path, extensions: tuple[str, ...]) -> Path:
    """The directory with the model's file: the directory itself where a file with one of these endings is in it, else its
    highest numbered folder, else the same for the only model of a repository, else itself again."""
    if not directory.is_dir() or any(path.suffix in extensions for path in directory.iterdir()):
        return directory
    versions = _versions(directory)
    if not versions:
        models = [path for path in directory.iterdir() if path.is_dir() and _versions(path)]
        versions = _versions(models[0]) if len(models) == 1 else []
    return max(versions, key=lambda path: int(path.name), default=directory)


def newest_of(directory: Path) -> Path:
    """The highest numbered folder in `directory`; itself where there is none."""
    return max(_versions(directory), key=lambda path: int(path.name), default=directory)


def _versions(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_dir() and path.name.isdigit()]
