"""Weights with the class that they belong to: KServe's own convention, a .py file beside the .pt.

The .py file is code and runs. The weights are read without running any.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ladle.errors import BadModel
from runtimes.pytorchserver.files import find_class_file
from runtimes.pytorchserver.program import Argument, Kind, Program

_MISMATCHES_MAX = 600
"""Characters of load_state_dict's complaint, which names every weight."""


def read_model_class(path: Path, class_name: str, device: str, *, allow_code: bool) -> Program:
    """An instance of the class with these weights, on `device`; BadModel says which part does not fit."""
    class_file = find_class_file(path.parent)
    if class_file is None:
        raise BadModel(
            f"{path.name} holds weights alone (a state_dict): put a .py file with their class beside it, "
            "or save the model with torch.jit.save or torch.export.save"
        )
    if not allow_code:
        raise BadModel(
            f"{path.name} needs {class_file.name}, which is code that runs, and LADLE_ALLOW_PICKLE is false; "
            "save the model with torch.jit.save, or as ONNX"
        )
    module = _instance(_find_class(class_file, class_name), class_file)
    _load_weights(module, path, class_file)
    module = module.to(device).eval()
    return _program(module)


def _find_class(class_file: Path, class_name: str) -> Any:
    loaded = _import_file(class_file)
    found = getattr(loaded, class_name, None)
    if isinstance(found, type) and issubclass(found, torch.nn.Module):
        return found
    present = sorted(
        name
        for name, value in vars(loaded).items()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ == loaded.__name__
    )
    raise BadModel(
        f"{class_file.name} has no torch.nn.Module named {class_name}, it has {', '.join(present) or 'none'}; "
        "say which with --model_class_name"
    )


class _NoCacheLoader(SourceFileLoader):
    """Writes no __pycache__ into the model's directory, which may be shared and read-only."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Nothing is kept."""


def _import_file(path: Path) -> ModuleType:
    name = path.stem.replace("-", "_")
    spec = spec_from_loader(name, _NoCacheLoader(name, str(path)))
    assert spec is not None, "only a loader without a name has none"
    assert spec.loader is not None
    module = module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # As KServe does: packages of the model lie beside its file.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # The user's own code: whatever it raises means that it cannot be imported.
        raise BadModel(f"{path.name} could not be imported: {type(error).__name__}: {error}") from error
    return module


def _instance(model_class: Any, class_file: Path) -> Any:
    try:
        return model_class()
    except Exception as error:  # The user's own code.
        raise BadModel(
            f"{class_file.name}: {model_class.__name__}() raised {type(error).__name__}: {error}; "
            "the class is made without arguments"
        ) from error


def _load_weights(module: Any, path: Path, class_file: Path) -> None:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadModel(
            f"{path.name} holds more than weights, and only weights are unpickled: save model.state_dict(), "
            "not the model or a checkpoint with other objects"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise BadModel(f"{path.name} could not be read: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        held = ", ".join(map(str, list(weights)[:10])) if isinstance(weights, dict) else type(weights).__name__
        raise BadModel(f"{path.name} holds {held}, expected a state_dict: names to tensors")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:_MISMATCHES_MAX]
        raise BadModel(f"{path.name} does not fit the class in {class_file.name}: {text}") from error


def _program(module: Any) -> Program:
    parameters = inspect.signature(module.forward).parameters.values()
    variadic = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    arguments = tuple(
        Argument(name=parameter.name, required=parameter.default is inspect.Parameter.empty)
        for parameter in parameters
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    )
    if variadic:
        return Program(
            kind=Kind.STATE_DICT,
            module=module,
            call=lambda module, values: module(*values.values()),
            arguments=(),
            any_inputs=True,
        )
    return Program(
        kind=Kind.STATE_DICT, module=module, call=lambda module, values: module(**values), arguments=arguments
    )
