"""A loaded model as the server sees it: what goes in by name, what comes out, and how to call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ladle.protocol.messages import TensorMetadata


class Kind(StrEnum):
    """What a file of PyTorch holds."""

    TORCHSCRIPT = "torchscript"
    EXPORT = "export"
    STATE_DICT = "state_dict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One input. What is not known is empty or None."""

    name: str
    datatype: str = ""
    shape: tuple[int, ...] | None = None
    """-1 for a dimension of any length."""
    required: bool = True
    number: Callable[[Any], Any] | None = None
    """Makes the plain number that the model takes instead of a tensor."""


@dataclass(slots=True, kw_only=True)
class Program:
    """`call` takes the module and values by argument name, and returns whatever the model does."""

    kind: Kind
    module: Any
    call: Callable[[Any, Mapping[str, Any]], Any]
    arguments: tuple[Argument, ...]
    outputs: tuple[TensorMetadata, ...] = ()
    """As far as they are known before the first prediction."""
    any_inputs: bool = False
    """Whether it takes any number of inputs under any names."""
    properties: dict[str, str] = field(default_factory=dict)
    """What its metadata say about it."""

    def run(self, values: Mapping[str, Any]) -> Any:
        """What the model returns for these values."""
        return self.call(self.module, values)

    @property
    def shapes_known(self) -> bool:
        """Whether an input can be made up."""
        return bool(self.arguments) and all(
            argument.shape is not None for argument in self.arguments if argument.required
        )
