"""What a request carries, as the values that a model is called with. Complaints say what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ladle.errors import InvalidInput
from ladle.protocol.datatypes import DATATYPES, datatype_of
from ladle.protocol.messages import InferRequest
from ladle.protocol.tensor import Array, Tensor
from runtimes.pytorchserver.datatypes import to_torch
from runtimes.pytorchserver.program import Argument, Program

_BY_POSITION = re.compile(r"input_{0,2}-?(\d+)", re.IGNORECASE)
"""Names that only count: KServe's input-0, Triton's INPUT__0."""


class Binder:
    """Turns requests into arguments for one program."""

    def __init__(self, program: Program, *, device: str, plain_datatype: str, integers_stay: bool) -> None:
        """`plain_datatype`: what V1's numbers become where the program does not say; its integers, unless they stay."""
        self._program = program
        self._device = device
        self._plain_datatype = plain_datatype
        self._integers_stay = integers_stay

    def bind(self, request: InferRequest) -> dict[str, Any]:
        """Values by argument name; InvalidInput where the request does not fit."""
        return self._bind_v1(request) if request.is_v1 else self._bind_v2(request.inputs)

    def zeros(self) -> dict[str, Any]:
        """A made-up request with one row, for a program whose shapes are known."""
        return {
            argument.name: self._value(argument, np.zeros([abs(length) for length in argument.shape or ()]))
            for argument in self._program.arguments
            if argument.required
        }

    def _bind_v1(self, request: InferRequest) -> dict[str, Any]:
        """Rows for the only input, or rows of objects with one value for each input."""
        rows = request.instances
        if rows and all(isinstance(row, dict) for row in rows):
            names = self._names_of_rows(rows)
            return {name: self._value(self._argument(name), _column(rows, name)) for name in names}
        required = [argument for argument in self._program.arguments if argument.required]
        if len(required) > 1:
            listed = [argument.name for argument in required]
            raise InvalidInput(f"the model has {len(listed)} inputs: every instance must be an object with {listed}")
        argument = next(iter(required or self._program.arguments), Argument(name="input-0"))
        return {argument.name: self._value(argument, request.as_array())}

    def _names_of_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        given = list(rows[0])
        self._check_names(given)
        for row in rows:
            if set(row) != set(given):
                raise InvalidInput(f"instances differ: one has {sorted(given)}, another {sorted(row)}")
        return given

    def _bind_v2(self, inputs: Sequence[Tensor]) -> dict[str, Any]:
        by_name = {self._name_for(tensor.name): tensor for tensor in inputs}
        if len(by_name) < len(inputs):
            raise InvalidInput(f"inputs are {[tensor.name for tensor in inputs]}, which names one of the model's twice")
        self._check_names(list(by_name))
        return {name: self._tensor(self._argument(name), tensor) for name, tensor in by_name.items()}

    def _name_for(self, given: str) -> str:
        """The model's own name for an input: the same, or by the position that the client's name counts."""
        arguments = self._program.arguments
        if any(argument.name == given for argument in arguments):
            return given
        match = _BY_POSITION.fullmatch(given)
        return arguments[int(match[1])].name if match and int(match[1]) < len(arguments) else given

    def _check_names(self, given: list[str]) -> None:
        if self._program.any_inputs:
            return
        known = [argument.name for argument in self._program.arguments]
        required = {argument.name for argument in self._program.arguments if argument.required}
        if not required <= set(given) <= set(known):
            optional = [name for name in known if name not in required]
            also = f", and may have {optional}" if optional else ""
            raise InvalidInput(f"inputs are {sorted(given)}, expected {sorted(required)}{also}")

    def _argument(self, name: str) -> Argument:
        return next((found for found in self._program.arguments if found.name == name), Argument(name=name))

    def _value(self, argument: Argument, array: Array) -> Any:
        """Numbers without a datatype of their own, as V1 has them."""
        datatype = argument.datatype or self._guess(array)
        try:
            return self._finish(argument, _converted(array, datatype), datatype)
        except InvalidInput as error:
            raise InvalidInput(f"input '{argument.name}': {error.message}") from None

    def _guess(self, array: Array) -> str:
        if array.dtype.kind == "f" or (array.dtype.kind in "iu" and not self._integers_stay):
            return self._plain_datatype
        return datatype_of(array).name

    def _tensor(self, argument: Argument, tensor: Tensor) -> Any:
        name = tensor.datatype.name
        if argument.datatype and name != argument.datatype:
            raise InvalidInput(f"input '{tensor.name}': datatype {name}, expected {argument.datatype}")
        try:
            return self._finish(argument, tensor.array, name)
        except InvalidInput as error:
            raise InvalidInput(f"input '{tensor.name}': {error.message}") from None

    def _finish(self, argument: Argument, array: Array, datatype: str) -> Any:
        if argument.number is not None:
            if array.size != 1:
                raise InvalidInput(f"shape {list(array.shape)}, expected one number")
            return argument.number(array.reshape(-1)[0])
        if argument.shape is not None and not fits(argument.shape, array.shape):
            raise InvalidInput(f"shape {list(array.shape)}, expected {list(argument.shape)}")
        return to_torch(array, datatype, self._device)


def fits(expected: Sequence[int], found: Sequence[int]) -> bool:
    """Whether a shape is the expected one, in which -1 is any length."""
    return len(expected) == len(found) and all(
        wanted in (-1, length) for wanted, length in zip(expected, found, strict=True)
    )


def _converted(array: Array, datatype: str) -> Array:
    """Numbers in the wanted type; InvalidInput where that would change them."""
    if array.dtype.kind not in "biuf":
        raise InvalidInput(f"expected numbers, got {'texts' if array.dtype.kind in 'SU' else array.dtype}")
    wanted = DATATYPES[datatype].dtype
    with np.errstate(over="ignore", invalid="ignore"):
        converted: Array = array.astype(wanted)
        if wanted.kind in "biu" and not bool((converted.astype(array.dtype) == array).all()):
            raise InvalidInput(f"holds values outside {datatype}")
    return converted


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Array:
    try:
        return np.asarray([row[name] for row in rows])
    except ValueError:
        raise InvalidInput(f"input '{name}': instances have values of different shapes") from None
