"""What the image transformer is told: how the predictor wants its pixels, and what to make of its scores.

Every flag has an environment variable, IMAGE_ and the flag in capitals, for manifests whose arguments are fixed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from ladle.errors import UserError
from ladle.server.options import with_underscores

PIXELS_MAX = 16_000_000
"""Pixels of one image before it is resized: 48 MB as RGB; a phone's photograph has 12 million. A guess."""
BATCH_MAX = 256
"""Images of one request. A guess."""
SIDE_MAX = 8192
CHANNELS_OF = {"L": 1, "RGB": 3, "RGBA": 4}
"""Pillow's modes."""


class Layout(StrEnum):
    """The order of a tensor's dimensions."""

    NCHW = "nchw"
    NHWC = "nhwc"
    FLAT = "flat"
    """One row of numbers for each image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """How images become tensors and scores labels."""

    width: int = 224
    """Pixels, after resizing; what most classifiers of ImageNet take."""
    height: int = 224
    mode: str = "RGB"
    """L (grey), RGB or RGBA."""
    layout: Layout = Layout.NCHW
    scale: float = 1 / 255
    """Each pixel, 0 to 255, is multiplied by this."""
    mean: tuple[float, ...] = ()
    """Subtracted then, one for each channel or one for all; () for 0."""
    std: tuple[float, ...] = ()
    """Divided by then; () for 1."""
    dtype: str = "FP32"
    """Of the tensor: FP32, FP16, FP64 or UINT8 (V2 and gRPC only)."""
    input_name: str = "input-0"
    output_name: str = ""
    """Which of the predictor's outputs has the scores; "" for its first."""
    labels: tuple[str, ...] = ()
    """A name for each score; () for numbers."""
    top_k: int = 0
    """How many labels to answer for each image; 0 passes the predictor's answer on as it is."""
    pixels_max: int = PIXELS_MAX
    batch_max: int = BATCH_MAX

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            _check(name, getattr(self, name), 1 <= getattr(self, name) <= SIDE_MAX, f"in [1, {SIDE_MAX}]")
        _check("mode", self.mode, self.mode in CHANNELS_OF, f"one of {', '.join(CHANNELS_OF)}")
        _check("dtype", self.dtype, self.dtype in ("FP32", "FP16", "FP64", "UINT8"), "FP32, FP16, FP64 or UINT8")
        for name in ("mean", "std"):
            given = getattr(self, name)
            counts = (0, 1, self.channels)
            _check(name, given, len(given) in counts, f"one number, or {self.channels}")
        _check("std", self.std, all(value > 0 for value in self.std), "more than 0")
        _check("top_k", self.top_k, self.top_k >= 0, "at least 0")
        _check("pixels_max", self.pixels_max, self.pixels_max > 0, "more than 0")
        _check("batch_max", self.batch_max, self.batch_max > 0, "more than 0")

    @property
    def channels(self) -> int:
        return CHANNELS_OF[self.mode]

    @classmethod
    def parse(cls, argv: Sequence[str], env: Mapping[str, str]) -> ImageSettings:
        """Flags, else the environment, else the defaults; UserError for a value that is none."""
        parser = argparse.ArgumentParser(allow_abbrev=False)
        for each in fields(cls):
            parser.add_argument(f"--{each.name}", default=env.get(f"IMAGE_{each.name.upper()}"))
        flags, _ = parser.parse_known_args(with_underscores(argv))
        given = {name: _parse(name, text) for name, text in vars(flags).items() if text is not None}
        return cls(**given)


def _parse(name: str, text: str) -> Any:
    try:
        if name in ("width", "height", "top_k", "pixels_max", "batch_max"):
            return int(text)
        if name == "scale":
            return float(text)
        if name in ("mean", "std"):
            return tuple(float(part) for part in text.split(",") if part.strip())
        if name == "layout":
            return Layout(text.lower())
    except ValueError:
        wanted = ", ".join(Layout) if name == "layout" else "a number, or numbers with commas between them"
        raise UserError(f"--{name} = {text}, must be {wanted}") from None
    return _labels(text) if name == "labels" else text


def _labels(text: str) -> tuple[str, ...]:
    """Names with commas between them, or @PATH of a file with one on each line."""
    if not text.startswith("@"):
        return tuple(part.strip() for part in text.split(","))
    try:
        return tuple(Path(text[1:]).read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise UserError(f"--labels = {text}, cannot be read: {error.strerror}") from None


def _check(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        raise UserError(f"--{name} = {value}, must be {wanted}")
