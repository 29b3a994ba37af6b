"""Importing a user's code from a model's directory, again each time that it is loaded.

`model.py` is imported into a package of its own, so that several models may each have one and relative imports stay within
a model. What it imports by plain names is found in its directory too, and shared with the whole process, as Python does.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ladle.errors import BadModel
from ladle.log import get_logger

FILE = "model.py"
log = get_logger(__name__)
_packages: dict[Path, str] = {}
"""By directory, the package that stands for it; directories of models that were imported in this process."""


def import_model_file(directory: Path) -> ModuleType:
    """`directory`'s model.py, read anew; BadModel where it is missing or fails, with the line."""
    if not (directory / FILE).is_file():
        there = (
            ", ".join(sorted(path.name for path in directory.iterdir())[:10]) if directory.is_dir() else "no directory"
        )
        raise BadModel(f"no {FILE} in {directory}: found {there or 'nothing'}; or name the class with --model_class")
    package = _packages.setdefault(directory, f"_ladle_model_{len(_packages)}")
    return _import(f"{package}.{Path(FILE).stem}", directory)


def import_named(module: str, directory: Path) -> ModuleType:
    """The module of that name, from `directory` or installed; BadModel where there is none or it fails."""
    _packages.setdefault(directory, f"_ladle_model_{len(_packages)}")
    return _import(module, directory)


def _import(name: str, directory: Path) -> ModuleType:
    _refuse_confusion(directory)
    _forget(directory)
    package = ModuleType(_packages[directory])
    package.__path__ = [str(directory)]
    sys.modules[package.__name__] = package
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    with _leaving_no_bytecode():
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:  # A user's code raises what it likes; all of it means "no model".
            log.error("import failed", module=name, traceback=traceback.format_exc())
            raise BadModel(f"{_shown(name, directory)} could not be imported: {_located(error, directory)}") from error


@contextlib.contextmanager
def _leaving_no_bytecode() -> Iterator[None]:
    """Models lie in a store that is shared between pods, or on a disk that is read-only."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _forget(directory: Path) -> None:
    """Lets what was imported from there be read anew."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _packages[directory] or _lies_in(module, directory):
            del sys.modules[name]


def _refuse_confusion(directory: Path) -> None:
    """Two models with a file of the same name, imported by that name: the second would get the first one's."""
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        module = sys.modules.get(path.stem)
        if path.name == FILE or path.suffix not in ("", ".py") or module is None:
            continue
        for other in _packages:
            if other != directory and _lies_in(module, other):
                raise BadModel(
                    f"{path.name} is in {directory} and in {other}, and one process has one module {path.stem}: "
                    f"import it as `from . import {path.stem}` in both, or serve them apart"
                )


def _lies_in(module: ModuleType, directory: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).is_relative_to(directory)


def _shown(name: str, directory: Path) -> str:
    return str(directory / FILE) if name.startswith(f"{_packages[directory]}.") else f"module {name}"


def _located(error: BaseException, directory: Path) -> str:
    """The error with the user's line that it came from, if one of theirs is in the traceback."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):  # Says where itself.
        return text
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(directory)
    ]
    return f"{text} ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else text
