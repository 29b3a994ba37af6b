"""Predictions with inputs and outputs bound to a device, and BF16, which numpy does not know.

Bound, an input is copied to the GPU once and an output back once, whatever the graph does between its own devices.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ladle.protocol.messages import TensorMetadata
from ladle.protocol.tensor import Array

_BF16 = "BF16"
_BF16_KIND = "tensor(bfloat16)"
_BF16_ELEMENT = 16
"""onnx.TensorProto.BFLOAT16."""
_SHIFT_BITS = 16
"""BF16 is the upper half of a float32."""


class Binding:
    """Runs one session by IO binding on `device`, "cpu" or "cuda"."""

    def __init__(self, onnxruntime: Any, session: Any, outputs: Sequence[TensorMetadata], *, device: str) -> None:
        self._onnxruntime = onnxruntime
        self._session = session
        self._device = device
        self._datatypes = {output.name: output.datatype for output in outputs}

    def run(self, wanted: Sequence[str], feeds: Mapping[str, tuple[str, Array]]) -> list[Array]:
        """The wanted outputs as arrays of this process; `feeds` are datatypes and arrays by input name."""
        binding = self._session.io_binding()
        for name, (datatype, array) in feeds.items():
            binding.bind_ortvalue_input(name, self._value(datatype, np.ascontiguousarray(array)))
        for name in wanted:
            # BF16 is read from memory, which has to be this process's.
            binding.bind_output(name, "cpu" if self._datatypes[name] == _BF16 else self._device)
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return [_array(value) for value in binding.get_outputs()]

    def _value(self, datatype: str, array: Array) -> Any:
        values = self._onnxruntime.OrtValue
        if datatype != _BF16:
            return values.ortvalue_from_numpy(array, self._device, 0)
        halves = (array.astype("<f4", copy=False).view("<u4") >> _SHIFT_BITS).astype(np.uint16)
        return values.ortvalue_from_numpy_with_onnx_type(halves, _BF16_ELEMENT)


def can_bind(kinds: Sequence[str]) -> bool:
    """Whether inputs and outputs of these onnxruntime types can be bound: texts and maps live in its own memory."""
    return all(kind.startswith("tensor(") and kind != "tensor(string)" for kind in kinds)


def needs_binding(kinds: Sequence[str], *, device: str) -> bool:
    """Whether they should be bound unasked: all on a GPU, elsewhere BF16, which cannot be passed otherwise."""
    return device != "cpu" or _BF16_KIND in kinds


def _array(value: Any) -> Array:
    if value.data_type() != _BF16_KIND:
        copied: Array = value.numpy()
        return copied
    count = int(np.prod(value.shape()))
    raw = ctypes.string_at(value.data_ptr(), count * np.dtype(np.uint16).itemsize)
    halves = np.frombuffer(raw, dtype="<u2").astype("<u4")
    return (halves << _SHIFT_BITS).view("<f4").reshape(value.shape())
