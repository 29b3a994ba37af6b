"""Which file in a directory is the model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ladle.errors import BadModel

_LISTED_MAX = 10
"""Names that a complaint lists."""


def find_model_file(directory: Path, extensions: tuple[str, ...]) -> Path:
    """The only file with one of these endings in `directory`, which may be the file itself; BadModel for none or several."""
    if directory.is_file():
        return directory
    if not directory.is_dir():
        raise BadModel(f"{directory} does not exist")
    found = sorted(path for path in directory.iterdir() if path.suffix in extensions and path.is_file())
    if not found:
        present = ", ".join(sorted(path.name for path in directory.iterdir())[:_LISTED_MAX]) or "nothing"
        raise BadModel(f"no model file in {directory}: expected one *{', *'.join(extensions)}, found {present}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:_LISTED_MAX])
        raise BadModel(f"more than one model file in {directory}, only one is allowed: {names}")
    return found[0]


def directory_bytes(directory: Path) -> int:
    """The length of all files below it, or of the file that it is; what cannot be read counts nothing."""
    paths = [directory] if directory.is_file() else directory.rglob("*")
    total = 0
    for path in paths:
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
