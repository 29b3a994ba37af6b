"""On which device a model runs, and why. (pure)

A GPU is taken where there is one. What was asked for and is not there falls back to the CPU with a reason, which the model's
metadata, its log and its metrics show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ladle.errors import UserError

CPU = "cpu"
WISH_VARIABLE = "LADLE_TORCH_DEVICE"
_WISH = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What PyTorch and the machine have."""

    torch_version: str
    cuda_version: str | None
    """CUDA that PyTorch was built with; None for a build without."""
    devices: int
    """CUDA devices that PyTorch can use."""
    gpu_present: bool
    """Whether the machine has a GPU, usable or not."""


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """`reason` says why the wish is not met; "" where it is."""

    device: str
    reason: str = ""


def decide_device(wish: str, machine: Machine) -> DeviceChoice:
    """The device for LADLE_TORCH_DEVICE=auto|cpu|cuda|cuda:N; UserError for another word."""
    if _WISH.fullmatch(wish) is None:
        raise UserError(f"{WISH_VARIABLE} = {wish}, must be auto, cpu, cuda or cuda:N")
    if wish == CPU or (wish == "auto" and not machine.devices and not machine.gpu_present):
        return DeviceChoice(CPU)
    index = int(wish.partition(":")[2] or 0)
    if index < machine.devices:
        return DeviceChoice(f"cuda:{index}")
    return DeviceChoice(CPU, _reason(machine, index))


def _reason(machine: Machine, index: int) -> str:
    if machine.cuda_version is None:
        return f"the installed torch {machine.torch_version} has no CUDA; install a build of torch that has it"
    if not machine.devices:
        return f"torch {machine.torch_version} with CUDA {machine.cuda_version} finds no usable GPU; see nvidia-smi"
    return f"cuda:{index} is not there, the machine has {machine.devices} CUDA device(s), from cuda:0"
