"""Whether a model failed because of what it was given. (pure)

An archive without shapes learns only from PyTorch that a request does not fit, and PyTorch says so with a RuntimeError, as
it says everything. Its words are the only way to tell the client's mistake from the model's.
"""

from __future__ import annotations

import re

_SHAPES = (
    r"shapes cannot be multiplied",
    r"must match the (existing )?size",
    r"(size|dim|dimension).* (does not|didn't) match",
    r"does(n't| not) broadcast with",
    r"does not match the length of the desired ordering",
    r"is invalid for input of size",
    r"don't multiply up",
    r"running_mean should contain",
    r"Given (normalized_shape|input size|groups|transposed)",
    r"Calculated (padded )?(input|output) size",
    r"Sizes of tensors must match|stack expects each tensor|Tensors must have same number of dimensions",
    r"need to be at least \dD|expected \dD input|tensor expected for input",
    r"was expecting embedding dimension|didn't match last dim|must be equal to input_size",
    r"Mismatch of parameter numbers",
    r"to be divisible by",
    r"[Ee]xpected .*\b(input|tensor|dimensions?|shape|sizes?|vector)\b.* (but )?(got|have|has|found)",
    r"Guard failed",
)
_DATATYPES = (
    r"must have the same dtype",
    r"expected scalar type|following scalar types|expected condition to be a boolean tensor",
    r"Input type \(.*\) and (weight|bias) type",
    r"tensors used as indices must be",
    r"with two bool tensors is not supported|could not infer output dtype",
    r"not implemented for '\w+'",
)
_INDICES = (
    r"index out of range in self",
    r"out of bounds for dimension",
    r"too many indices",
    r"Dimension out of range",
)
_MISFITS = re.compile("|".join(_SHAPES + _DATATYPES + _INDICES))
"""How PyTorch 2.13 says that inputs and layers do not go together; a test holds every kind of layer to it."""


def misfit_message(error: Exception) -> str | None:
    """What PyTorch says about the input; None where the model itself failed."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    for line in reversed(lines):  # TorchScript puts its own traceback before the words that count.
        if _MISFITS.search(line):
            return line.removeprefix("RuntimeError: ")
    return None
