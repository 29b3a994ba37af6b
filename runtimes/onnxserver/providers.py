"""Which execution provider runs a model, and why. (pure)

The fastest that is there is taken: TensorRT only if it is asked for, since it compiles for minutes at the first load, CUDA
where the installed onnxruntime has it, else the CPU. What was asked for and is not there falls back with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ladle.errors import UserError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_BY_WISH = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU), "auto": (CUDA, CPU)}
WISH_VARIABLE = "LADLE_ONNX_PROVIDER"


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """Providers in order of preference. `reason` says why the first wish is not met; "" where it is."""

    providers: tuple[str, ...]
    reason: str = ""

    @property
    def device(self) -> str:
        """Where tensors have to be for the first provider, in onnxruntime's words."""
        return "cpu" if self.providers[0] == CPU else "cuda"


def decide_providers(env: Mapping[str, str], available: Sequence[str], *, gpu_present: bool) -> ProviderChoice:
    """The providers for LADLE_ONNX_PROVIDER=auto|cpu|cuda|tensorrt; UserError for another word."""
    wish = env.get(WISH_VARIABLE, "auto").strip().lower() or "auto"
    if wish not in _BY_WISH:
        raise UserError(f"{WISH_VARIABLE} = {wish}, must be one of {', '.join(_BY_WISH)}")
    wanted = _BY_WISH[wish]
    chosen = tuple(name for name in wanted if name in available)
    if chosen and chosen[0] == wanted[0]:
        return ProviderChoice(chosen)
    if wish == "auto" and not gpu_present:
        return ProviderChoice(chosen)
    reason = f"{wanted[0]} is not in the installed onnxruntime, which has {', '.join(available)}"
    return ProviderChoice(chosen, f"{reason}; install onnxruntime-gpu" if gpu_present else reason)


def decide_outcome(choice: ProviderChoice, started: Sequence[str]) -> ProviderChoice:
    """What a session really runs on: one whose libraries are missing is left out by onnxruntime without an error."""
    if started[0] == choice.providers[0]:
        return choice
    missing = f"onnxruntime could not start {choice.providers[0]}: its CUDA libraries or a usable GPU are missing"
    return replace(choice, providers=tuple(started), reason=missing)
