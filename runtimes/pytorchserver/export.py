"""Archives of torch.export. They know everything: names, datatypes and shapes, of inputs and outputs.

Reading one can run code: PyTorch unpickles parts of it and evaluates its symbolic shapes. See docs/security.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ladle.errors import BadModel
from ladle.protocol.messages import TensorMetadata
from runtimes.pytorchserver.datatypes import NAMES
from runtimes.pytorchserver.outputs import named_outputs
from runtimes.pytorchserver.program import Argument, Kind, Program


def read_export(path: Path, device: str) -> Program:
    """The archive on `device`; BadModel where it is none, or takes what requests cannot carry."""
    from torch.export.passes import move_to_device_pass

    try:
        with path.open("rb") as file:  # Opened here: by name, only the ending .pt2 would do.
            exported = torch.export.load(file)
    except Exception as error:  # Its reader raises what comes along: KeyError, AssertionError, RuntimeError, its own.
        raise BadModel(f"{path.name} could not be read as an archive of torch.export: {_first_line(error)}") from error
    if device != "cpu":
        exported = move_to_device_pass(exported, device)
    slots = _slots(path.name, exported)
    signature = exported.module_call_graph[0].signature
    return Program(
        kind=Kind.EXPORT,
        module=exported.module(),
        call=_Call(slots, signature.in_spec),
        arguments=tuple(slot for slot in slots if isinstance(slot, Argument)),
        outputs=_outputs(exported, signature.out_spec),
    )


class _Call:
    """Puts values where the exported function had them, in whatever tuples and dicts."""

    def __init__(self, slots: list[Any], in_spec: Any) -> None:
        self._slots = slots
        self._in_spec = in_spec

    def __call__(self, module: Any, values: Mapping[str, Any]) -> Any:
        flat = [values[slot.name] if isinstance(slot, Argument) else slot for slot in self._slots]
        arguments, keywords = torch.utils._pytree.tree_unflatten(flat, self._in_spec)  # noqa: SLF001  # Its only home.
        return module(*arguments, **keywords)


def _slots(file_name: str, exported: Any) -> list[Any]:
    """The inputs in order: an Argument for each tensor, and the values that were fixed at export."""
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    slots: list[Any] = []
    for spec in exported.graph_signature.input_specs:
        if spec.kind.name != "USER_INPUT":
            continue
        if hasattr(spec.arg, "value"):
            slots.append(spec.arg.value)
            continue
        value = values[spec.arg.name]
        if not isinstance(value, torch.Tensor) or value.dtype not in NAMES:
            raise BadModel(
                f"{file_name}: input '{spec.arg.name}' is {getattr(value, 'dtype', type(value).__name__)}, which requests "
                "cannot carry; export a module whose forward takes tensors of plain numbers"
            )
        slots.append(Argument(name=spec.arg.name, datatype=NAMES[value.dtype], shape=_shape(value)))
    return slots


def _outputs(exported: Any, out_spec: Any) -> tuple[TensorMetadata, ...]:
    (node,) = (node for node in exported.graph.nodes if node.op == "output")
    flat = [getattr(value, "meta", {}).get("val", value) for value in node.args[0]]
    user = flat[len(flat) - len(exported.graph_signature.user_outputs) :]
    named = named_outputs(torch.utils._pytree.tree_unflatten(user, out_spec))  # noqa: SLF001  # Its only home.
    return tuple(
        TensorMetadata(name, NAMES.get(value.dtype, ""), _shape(value) or (1,))
        for name, value in named.items()
        if isinstance(value, torch.Tensor)
    )


def _shape(value: Any) -> tuple[int, ...]:
    """Lengths; -1 for one that is a symbol."""
    return tuple(length if isinstance(length, int) else -1 for length in value.shape)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
