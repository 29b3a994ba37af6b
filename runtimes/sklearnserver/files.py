"""Estimators from files. Reading a pickle runs the code in it; a skops file only builds types that are trusted."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from ladle.errors import BadModel
from runtimes.sklearnserver.settings import SklearnSettings

SKOPS = ".skops"


def read_estimator(path: Path, settings: SklearnSettings) -> Any:
    """What the file holds; BadModel where the settings forbid it, or where it cannot be read."""
    if path.suffix == SKOPS:
        return _read_skops(path, settings.trusted)
    if not settings.allow_pickle:
        raise BadModel(
            f"{path.name} is a pickle, which runs code when it is read, and LADLE_ALLOW_PICKLE is false; "
            "save the model with skops, or as ONNX"
        )
    try:
        return import_module("joblib").load(path)
    except Exception as error:  # A pickle runs code of its own: whatever it raises means that the file cannot be read.
        raise BadModel(f"{path.name} could not be read: {type(error).__name__}: {error}") from error


def _read_skops(path: Path, trusted: tuple[str, ...]) -> Any:
    try:
        skops = import_module("skops.io")
    except ImportError:
        raise BadModel(f"{path.name} needs skops in the server's environment: pip install skops") from None
    unknown = sorted(set(skops.get_untrusted_types(file=path)) - set(trusted))
    if unknown:
        raise BadModel(f"{path.name} holds types that are not trusted: {', '.join(unknown)}; see LADLE_SKOPS_TRUSTED")
    return skops.load(path, trusted=list(trusted))
