"""What the environment says about scikit-learn models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ladle.errors import UserError
from ladle.server.queue_settings import flag, number

ACCELERATE_AFTER_S = 1.0
"""Seconds that scikit-learn has spent on predictions before a conversion is tried: it takes about as long itself, and 60 MB
(measured 2026-11-21), which a model that is hardly asked would never earn back."""


class Engine(StrEnum):
    """What LADLE_SKLEARN_ENGINE may say."""

    AUTO = "auto"
    SKLEARN = "sklearn"
    ONNX = "onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class SklearnSettings:
    """How one model is read and who answers for it."""

    probabilities: bool = False
    """Answer probabilities where there are any (PREDICT_PROBA, KServe's)."""
    allow_pickle: bool = True
    """Read files that run code when they are read (LADLE_ALLOW_PICKLE)."""
    trusted: tuple[str, ...] = ()
    """Types beyond skops' own list that a .skops file may hold (LADLE_SKOPS_TRUSTED, separated by commas)."""
    engine: Engine = Engine.AUTO
    """Who answers (LADLE_SKLEARN_ENGINE): auto takes a verified ONNX graph where there is one."""
    accelerate_after_s: float = ACCELERATE_AFTER_S
    """Time in predictions before a conversion is tried (LADLE_SKLEARN_ACCELERATE_AFTER_S)."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> SklearnSettings:
        """UserError where a value is none."""
        trusted = env.get("LADLE_SKOPS_TRUSTED", "")
        return cls(
            probabilities=flag(env, "PREDICT_PROBA", default=False),
            allow_pickle=flag(env, "LADLE_ALLOW_PICKLE", default=True),
            trusted=tuple(name.strip() for name in trusted.split(",") if name.strip()),
            engine=parse_engine(env.get("LADLE_SKLEARN_ENGINE", "")),
            accelerate_after_s=number(env, "LADLE_SKLEARN_ACCELERATE_AFTER_S", ACCELERATE_AFTER_S),
        )


def parse_engine(text: str) -> Engine:
    """The wished engine; UserError that lists the known."""
    try:
        return Engine(text.strip().lower() or Engine.AUTO)
    except ValueError:
        raise UserError(f"LADLE_SKLEARN_ENGINE = {text}, must be one of {', '.join(Engine)}") from None
