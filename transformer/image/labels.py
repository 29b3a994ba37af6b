"""Scores to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ladle.errors import InferenceError
from ladle.protocol.tensor import Array


def top_labels(scores: Array, *, count: int, labels: Sequence[str]) -> list[list[dict[str, Any]]]:
    """For each row of `scores`, `(images, classes)`, its `count` best: label and score, the best first."""
    if scores.ndim != 2 or scores.dtype.kind not in "fiu":
        raise InferenceError(
            f"expected scores (images, classes) from the predictor, got {scores.dtype} {list(scores.shape)}"
        )
    if labels and len(labels) != scores.shape[1]:
        raise InferenceError(f"there are {len(labels)} labels for {scores.shape[1]} scores")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [
        [{"label": labels[index] if labels else int(index), "score": float(row[index])} for index in indices]
        for row, indices in zip(scores, best, strict=True)
    ]
