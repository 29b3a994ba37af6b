"""torch.compile, where somebody asks for it: at load, and only if the compiled model answers as the other one does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from runtimes.pytorchserver.outputs import named_outputs
from runtimes.pytorchserver.program import Kind, Program

_REASON_MAX = 300
"""Characters of a compiler's complaint, which may be pages."""


def compile_program(program: Program, backend: str, zeros: Callable[[], Mapping[str, Any]]) -> tuple[Program, str]:
    """The program compiled, and ""; or the program itself, and why it was not compiled."""
    if program.kind is Kind.TORCHSCRIPT:
        return program, "TorchScript is compiled by its own interpreter"
    try:
        # For any number of rows: else each new number would be compiled anew, within a request.
        compiled = replace(program, module=torch.compile(program.module, backend=backend, dynamic=True))
        with torch.inference_mode():
            expected, found = named_outputs(program.run(zeros())), named_outputs(compiled.run(zeros()))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    except Exception as error:  # noqa: BLE001  # A compiler, a C++ compiler behind it, and their own errors without number.
        return program, f"{backend}: {type(error).__name__}: {' '.join(str(error).split())[:_REASON_MAX]}"
    return compiled, ""
