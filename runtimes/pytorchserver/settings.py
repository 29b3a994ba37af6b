"""What the command line and the environment say about PyTorch models."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ladle.errors import UserError
from ladle.protocol.datatypes import DATATYPES
from ladle.protocol.messages import TensorMetadata
from ladle.server.queue_settings import flag, number
from runtimes.pytorchserver.threads import decide_threads

MODEL_CLASS = "PyTorchModel"
"""The class that KServe's pytorchserver looks for unless told otherwise."""
INPUTS_VARIABLE = "LADLE_TORCH_INPUTS"
_INPUT = re.compile(r"\s*(?P<name>[^:;\s]+):(?P<datatype>\w+):(?P<shape>-?\d+(,-?\d+)*)\s*")
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
_NO_BACKENDS = ("", "false", "0", "no", "off")
_DEFAULT_BACKENDS = ("true", "1", "yes", "on")
_INDUCTOR = "inductor"


@dataclass(frozen=True, slots=True)
class TorchFlags:
    """The flags that only this runtime has, or reads in its own way."""

    model_class: str = MODEL_CLASS
    threads: int | None = None
    """None where --nthread was not given."""

    @classmethod
    def parse(cls, argv: Sequence[str]) -> TorchFlags:
        """Reads KServe's flags; others are left to ServerOptions."""
        parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
        parser.add_argument("--model_class_name", "--model-class-name", default=MODEL_CLASS)
        parser.add_argument("--nthread", type=int, default=None)
        found, _ = parser.parse_known_args(list(argv))
        return cls(found.model_class_name, found.nthread)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchSettings:
    """How one model is read and run."""

    model_class: str = MODEL_CLASS
    """Name of the class in the .py file beside weights (--model_class_name)."""
    device: str = "auto"
    """Where it runs (LADLE_TORCH_DEVICE): auto, cpu, cuda or cuda:N."""
    threads: int = 1
    """Of PyTorch, for one operation (--nthread, OMP_NUM_THREADS, or the CPU limit)."""
    allow_code: bool = True
    """Read files that run code (LADLE_ALLOW_PICKLE): model classes, and torch.export archives."""
    inputs: tuple[TensorMetadata, ...] = ()
    """What the model takes, where its archive does not say it (LADLE_TORCH_INPUTS)."""
    warm_up: int = 0
    """Predictions at load, on zeros (LADLE_TORCH_WARMUP)."""
    compiler: str = ""
    """Backend of torch.compile (LADLE_TORCH_COMPILE); "" for none."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str], *, flags: TorchFlags | None = None) -> TorchSettings:
        """UserError where a value is none."""
        flags = flags or TorchFlags()
        limit = _CPU_MAX.read_text() if _CPU_MAX.exists() else ""
        return cls(
            model_class=flags.model_class,
            device=env.get("LADLE_TORCH_DEVICE", "").strip().lower() or "auto",
            threads=decide_threads(flags.threads, env, cpu_max=limit),
            allow_code=flag(env, "LADLE_ALLOW_PICKLE", default=True),
            inputs=parse_inputs(env.get(INPUTS_VARIABLE, "")),
            warm_up=int(number(env, "LADLE_TORCH_WARMUP", 0)),
            compiler=_compiler(env.get("LADLE_TORCH_COMPILE", "")),
        )


def parse_inputs(text: str) -> tuple[TensorMetadata, ...]:
    """The declared inputs, as in `image:FP32:-1,1,28,28;mask:BOOL:-1`; UserError that shows the form."""
    return tuple(_parse_input(part) for part in text.split(";") if part.strip())


def _parse_input(part: str) -> TensorMetadata:
    match = _INPUT.fullmatch(part)
    if match is None:
        raise UserError(f"{INPUTS_VARIABLE}: {part.strip()}, must be NAME:DATATYPE:SHAPE as in image:FP32:-1,1,28,28")
    if match["datatype"] not in DATATYPES or match["datatype"] == "BYTES":
        known = ", ".join(name for name in DATATYPES if name != "BYTES")
        raise UserError(f"{INPUTS_VARIABLE}: datatype {match['datatype']}, must be one of {known}")
    return TensorMetadata(match["name"], match["datatype"], tuple(int(length) for length in match["shape"].split(",")))


def _compiler(text: str) -> str:
    word = text.strip().lower()
    if word in _NO_BACKENDS:
        return ""
    return _INDUCTOR if word in _DEFAULT_BACKENDS else word
