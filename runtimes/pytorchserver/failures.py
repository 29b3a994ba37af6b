"""Whether a model failed because of what it was given. (pure)

An archive without shapes learns only from PyTorch that a request does not fit, and PyTorch says so with a RuntimeError, as
it says everything. Its words are the only way to tell the client's mistake from the model's.
"""

from __future__ import annotations

import re

_MISFITS = re.compile(
    "|".join(
        (
            r"shapes cannot be multiplied",
            r"must match the size of tensor",
            r"must have the same dtype",
            r"expected m1 and m2 to have the same dtype",
            r"expected scalar type",
            r"[Ii]nput type \(.*\) and (weight|bias) type",
            r"to have \d+ channels, but got",
            r"[Ee]xpected .*\b(input|tensor|dimension|dimensions|shape|sizes?|dim)\b.* (but )?(got|have|has|found)",
            r"is invalid for input of size",
            r"Provided sizes .* don't multiply up",
            r"running_mean should contain",
            r"Given (normalized_shape|input size|groups)",
            r"Calculated (padded )?(input|output) size",
            r"Sizes of tensors must match",
            r"[Dd]imension out of range",
            r"index out of range in self",
            r"inconsistent tensor size|size mismatch|input.size\(-1\) must be equal to",
            r"Guard failed",
            r"not implemented for '\w+'",
            r"Tensors must have same number of dimensions",
            r"each element in list of batch",
        )
    )
)
"""How PyTorch 2 says that shapes or datatypes do not go together; tests hold each kind of layer to it."""


def misfit_message(error: Exception) -> str | None:
    """What PyTorch says about the input; None where the model itself failed."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    for line in reversed(lines):  # TorchScript puts its own traceback before the words that count.
        if _MISFITS.search(line):
            return line.removeprefix("RuntimeError: ")
    return None
