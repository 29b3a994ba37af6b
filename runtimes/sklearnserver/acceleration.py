"""scikit-learn estimators as ONNX graphs, where those give the same answers a hundred times as fast.

A forest of a hundred trees takes scikit-learn 5 ms for one row and onnxruntime 6 µs, nearly all of the difference being
Python. Not every estimator converts, and not every conversion is right, so the graph is only used after it agreed with the
estimator on rows made for it: labels equal on every row, numbers within a tolerance. Otherwise scikit-learn answers, and the
metadata say why.

The conversion takes a tenth of a second and runs beside the first requests, which scikit-learn answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ladle.errors import UserError
from ladle.protocol.tensor import Array
from runtimes.onnx_runtime import import_onnxruntime

ROWS_CHECKED = 400
"""Rows of each kind on which both have to agree. A guess: a forest needs 20 ms for them."""
NUMBER_TOLERANCE = 1e-5
"""Largest relative difference of probabilities and regressions. 32-bit graphs differ by 1e-7 to 1e-6 (measured)."""
_SEED = 20261121
_SPREADS = (0.1, 1.0, 10.0, 1000.0)
"""Widths of random rows where the estimator does not say what its features look like."""
_THRESHOLDS_MAX = 2000
"""Thresholds per feature from which rows are drawn."""


class NotAccelerated(UserError):
    """Why an estimator stays with scikit-learn."""

    reason = "NotAccelerated"


@dataclass(frozen=True, slots=True)
class Graph:
    """A verified graph that answers in the estimator's stead."""

    run: Callable[[Array], Array]
    precision: str
    """float64 or float32: what the graph computes in."""
    width: tuple[int, ...]
    """Shape of one row's answer."""
    dtype: np.dtype[Any]
    """Of scikit-learn's answers, so that nobody sees which engine answered."""

    def answer(self, rows: Array) -> Array | None:
        """The answer; None where the rows are for scikit-learn: not plain finite numbers."""
        if rows.dtype.kind not in "fiub":
            return None
        cast = rows.astype(self.precision, copy=False)
        if not np.isfinite(cast).all():
            return None
        return self.run(cast).reshape((len(rows), *self.width)).astype(self.dtype, copy=False)


def accelerate(estimator: Any, predict: Callable[[Array], Array], *, probabilities: bool, threads: int) -> Graph:
    """A graph that agrees with `predict`, the estimator's own function; NotAccelerated with the reason where there is none."""
    features = getattr(estimator, "n_features_in_", None)
    if features is None or (getattr(estimator, "feature_names_in_", None) is not None and _mixes_types(estimator)):
        raise NotAccelerated(f"{type(estimator).__name__} does not take rows of numbers")
    if isinstance(getattr(estimator, "classes_", None), list):
        raise NotAccelerated(f"{type(estimator).__name__} answers for several targets")
    reasons = []
    # 64 bits first: linear models then agree to the last digit. Trees compare in 32 bits in scikit-learn itself.
    for precision in ("float64", "float32"):
        try:
            run = _session(_convert(estimator, features, precision), probabilities=probabilities, threads=threads)
            _verify(run, predict, list(_rows(estimator, features)), precision)
        except NotAccelerated as error:
            reasons.append(f"{precision}: {error}")
        else:
            example = np.asarray(predict(np.zeros((1, features))))
            dtype = example.dtype if example.dtype.kind in "fiub" else np.dtype(object)
            return Graph(run, precision, example.shape[1:], dtype)
    raise NotAccelerated("; ".join(reasons))


def _mixes_types(estimator: Any) -> bool:
    """Whether columns are treated by name, as a ColumnTransformer does."""
    return any(hasattr(step, "transformers_") for _, step in getattr(estimator, "steps", []))


def _convert(estimator: Any, features: int, precision: str) -> bytes:
    try:
        skl2onnx = import_module("skl2onnx")
        types = import_module("skl2onnx.common.data_types")
    except ImportError as error:
        raise NotAccelerated(f"{error.name} is not installed") from None
    kind = types.DoubleTensorType if precision == "float64" else types.FloatTensorType
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    try:
        model = skl2onnx.to_onnx(estimator, initial_types=[("x", kind([None, features]))], options=options)
    except Exception as error:  # Converters raise what they like; none of it is an error of ours.
        raise NotAccelerated(f"conversion failed: {_first_line(error)}") from error
    converted: bytes = model.SerializeToString()
    return converted


def _session(model: bytes, *, probabilities: bool, threads: int) -> Callable[[Array], Array]:
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise NotAccelerated(f"{error.name} is not installed") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base but this one.
        raise NotAccelerated(f"the graph does not load: {_first_line(error)}") from error
    outputs = [output.name for output in session.get_outputs()]
    if probabilities and len(outputs) < 2:
        raise NotAccelerated("the graph has no probabilities")
    wanted = [outputs[1] if probabilities else outputs[0]]
    return lambda rows: session.run(wanted, {"x": rows})[0]


def _verify(
    run: Callable[[Array], Array], predict: Callable[[Array], Array], rows: list[Array], precision: str
) -> None:
    for batch in rows:
        # One conversion of what clients send, which is 64-bit: a graph that only agrees on 32-bit rows does not agree.
        expected = predict(batch)
        try:
            found = run(batch.astype(precision))
        except Exception as error:  # As above.
            raise NotAccelerated(f"the graph fails: {_first_line(error)}") from error
        _compare(np.asarray(found), np.asarray(expected))
        single = run(batch[:1].astype(precision))
        _compare(np.asarray(single), np.asarray(predict(batch[:1])))


def _compare(found: Array, expected: Array) -> None:
    if found.size != expected.size:
        raise NotAccelerated(f"the graph answers {list(found.shape)}, scikit-learn {list(expected.shape)}")
    found = found.reshape(expected.shape)
    if expected.dtype.kind == "f":
        if not np.allclose(found, expected, rtol=NUMBER_TOLERANCE, atol=NUMBER_TOLERANCE):
            raise NotAccelerated(f"numbers differ by up to {float(np.max(np.abs(found - expected))):.2g}")
        return
    differing = int((found.astype(expected.dtype) != expected).sum())
    if differing:
        raise NotAccelerated(f"{differing} of {expected.size} labels differ")


def _rows(estimator: Any, features: int) -> Iterator[Array]:
    """Rows that a wrong conversion would be found with: random ones, and for trees those on and beside their thresholds."""
    rng = np.random.default_rng(_SEED)
    center, width = _scale_of(estimator, features)
    for spread in _SPREADS:
        yield center + width * rng.normal(0.0, spread, (ROWS_CHECKED // len(_SPREADS), features))
    thresholds = _thresholds(estimator, features)
    if thresholds:
        columns = [rng.choice(found, ROWS_CHECKED) if len(found) else np.zeros(ROWS_CHECKED) for found in thresholds]
        at = np.column_stack(columns)
        yield at
        yield np.nextafter(at.astype("float32"), np.float32(np.inf)).astype("float64")
        yield np.nextafter(at.astype("float32"), np.float32(-np.inf)).astype("float64")


def _scale_of(estimator: Any, features: int) -> tuple[Array, Array]:
    """Where the training data lay, as far as a scaler at the front remembers it."""
    first = estimator.steps[0][1] if getattr(estimator, "steps", None) else estimator
    center, width = getattr(first, "mean_", None), getattr(first, "scale_", None)
    if center is None or width is None or np.shape(center) != (features,) or np.shape(width) != (features,):
        return np.zeros(features), np.ones(features)
    return np.asarray(center), np.asarray(width)


def _thresholds(estimator: Any, features: int) -> list[Array]:
    """By feature, the values at which the estimator's trees split."""
    found: list[list[float]] = [[] for _ in range(features)]
    for tree in _trees(estimator):
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
            if 0 <= feature < features and len(found[feature]) < _THRESHOLDS_MAX:
                found[feature].append(float(threshold))
    return [np.asarray(values) for values in found] if any(found) else []


def _trees(estimator: Any) -> Iterator[Any]:
    if hasattr(estimator, "tree_"):
        yield estimator.tree_
    for inner in np.asarray(getattr(estimator, "estimators_", []), dtype=object).reshape(-1):
        yield from _trees(inner)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
