"""Triton's layout of a model: numbered folders, of which the highest is served."""

from __future__ import annotations

from pathlib import Path


def newest_version(directory: Path, extensions: tuple[str, ...]) -> Path:
    """The directory with the model's file: itself where a file with one of these endings is in it, else the highest of its
    numbered folders, else itself again."""
    if not directory.is_dir() or any(path.suffix in extensions for path in directory.iterdir()):
        return directory
    versions = [path for path in directory.iterdir() if path.is_dir() and path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name), default=directory)
