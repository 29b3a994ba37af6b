"""Estimators from files. Reading a pickle runs the code in it; a skops file only builds types that are trusted."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from ladle.errors import BadModel
from runtimes.sklearnserver.settings import SklearnSettings

SKOPS = ".skops"


def read_estimator(path: Path, settings: SklearnSettings) -> Any:
    """What the file holds; BadModel where the settings forbid it, else whatever reading it raises."""
    if path.suffix == SKOPS:
        return _read_skops(path, settings.trusted)
    if not settings.allow_pickle:
        raise BadModel(
            f"{path.name} is a pickle, which runs code when it is read, and LADLE_ALLOW_PICKLE is false; "
            "save the model with skops, or as ONNX"
        )
    return import_module("joblib").load(path)


def _read_skops(path: Path, trusted: tuple[str, ...]) -> Any:
    try:
        skops = import_module("skops.io")
    except ImportError:
        raise BadModel(f"{path.name} needs skops in the server's environment: pip install skops") from None
    unknown = sorted(set(skops.get_untrusted_types(file=path)) - set(trusted))
    if unknown:
        raise BadModel(f"{path.name} holds types that are not trusted: {', '.join(unknown)}; see LADLE_SKOPS_TRUSTED")
    return skops.load(path, trusted=list(trusted))
