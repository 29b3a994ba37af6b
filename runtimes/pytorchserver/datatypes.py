"""The datatypes of the Open Inference Protocol and PyTorch's, and tensors from one to the other."""

from __future__ import annotations

from typing import Any

import torch

from ladle.errors import InferenceError, InvalidInput
from ladle.protocol.datatypes import DATATYPES
from ladle.protocol.tensor import Array, Tensor, tensor_of

TORCH_TYPES = {
    "BOOL": torch.bool,
    **{f"INT{bits}": getattr(torch, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": getattr(torch, f"uint{bits}") for bits in (8, 16, 32, 64)},
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "FP32": torch.float32,
    "FP64": torch.float64,
}
"""By the protocol's name."""
NAMES = {dtype: name for name, dtype in TORCH_TYPES.items()}
_LOOKUPS = ("Embedding", "EmbeddingBag")


def to_torch(array: Array, datatype: str, device: str) -> Any:
    """The array as a tensor of its own: models write into their inputs, and these bytes may be a request's."""
    if array.dtype.kind not in "biuf":
        raise InvalidInput(
            f"expected numbers, got {DATATYPES['BYTES'].name if array.dtype.kind in 'OSU' else array.dtype}"
        )
    return torch.tensor(array).to(device=device, dtype=TORCH_TYPES[datatype])


def to_protocol(name: str, value: Any) -> Tensor:
    """The model's tensor, or plain number, as an output; InferenceError where the protocol has no such type."""
    if not isinstance(value, torch.Tensor):
        value = torch.as_tensor(value)
    if value.dim() == 0:
        value = value.reshape(1)
    if value.dtype not in NAMES:
        raise InferenceError(f"output '{name}' is {value.dtype}, which the inference protocol has no datatype for")
    if value.dtype == torch.bfloat16:  # numpy has no such type; the protocol keeps it as FP32 until it is sent.
        return tensor_of(name, value.float().numpy(force=True), "BF16")
    return tensor_of(name, value.numpy(force=True))


def default_datatype(module: Any) -> str:
    """What plain numbers become for a model that does not say: its weights' type."""
    for parameter in module.parameters():
        if parameter.is_floating_point() and parameter.dtype in NAMES:
            return NAMES[parameter.dtype]
    return NAMES[torch.get_default_dtype()]


def looks_up(module: Any) -> bool:
    """Whether the model has a table that it reads by index: then integers are meant as such."""
    return any(getattr(part, "original_name", type(part).__name__) in _LOOKUPS for part in module.modules())
