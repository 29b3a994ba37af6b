"""TorchScript archives. Their code runs in TorchScript's interpreter; they know their inputs' names, but no shapes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ladle.errors import BadModel
from ladle.protocol.messages import TensorMetadata
from runtimes.pytorchserver.datatypes import default_datatype
from runtimes.pytorchserver.outputs import position_name
from runtimes.pytorchserver.program import Argument, Kind, Program

_NUMBERS: Mapping[str, Callable[[Any], Any]] = {"int": int, "float": float, "bool": bool}
_TENSORS = ("Tensor", "Optional[Tensor]")


def read_torchscript(path: Path, device: str) -> Program:
    """The archive on `device`; BadModel where it is none, or takes what requests cannot carry."""
    # Deprecated by PyTorch in favour of torch.export, and what most saved models are.
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated")
    try:
        module = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise BadModel(f"{path.name} could not be read as TorchScript: {error}") from error
    if not hasattr(module, "forward"):
        raise BadModel(f"{path.name} has no forward; save a module, not a part of one")
    schema = module.forward.schema
    arguments = tuple(_argument(path.name, item) for item in schema.arguments[1:])
    return Program(
        kind=Kind.TORCHSCRIPT,
        module=module,
        call=lambda module, values: module(**values),
        arguments=arguments,
        outputs=_outputs(str(schema.returns[0].type), default_datatype(module)),
    )


def _argument(file_name: str, item: Any) -> Argument:
    kind = str(item.type)
    required = not item.has_default_value()
    if kind in _TENSORS:
        return Argument(name=item.name, required=required)
    if kind in _NUMBERS:
        return Argument(name=item.name, required=required, number=_NUMBERS[kind])
    if required:
        raise BadModel(
            f"{file_name}: forward takes '{item.name}' as {kind}, and requests have tensors only; "
            "wrap the model in a module whose forward takes tensors"
        )
    return Argument(name=item.name, required=False)


def _outputs(returned: str, datatype: str) -> tuple[TensorMetadata, ...]:
    """What the return type tells: one tensor, or a tuple of them; () for what only a prediction shows."""
    if returned == "Tensor":
        return (TensorMetadata(position_name(0), datatype, (-1,)),)
    if returned.startswith("Tuple["):
        kinds = returned.removeprefix("Tuple[").removesuffix("]").split(", ")
        if all(kind == "Tensor" for kind in kinds):
            return tuple(TensorMetadata(position_name(index), datatype, (-1,)) for index in range(len(kinds)))
    return ()
