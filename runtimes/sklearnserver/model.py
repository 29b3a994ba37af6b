"""A scikit-learn estimator behind V1 and V2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ladle.errors import BadModel, InvalidInput
from ladle.protocol.datatypes import datatype_of
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.results import DEFAULT_OUTPUT
from ladle.protocol.tensor import Array
from ladle.server.model import Model
from ladle.server.model_files import find_model_file

EXTENSIONS = (".joblib", ".pkl", ".pickle")
_INPUT = "input-0"


class SklearnModel(Model):
    """The one estimator in a directory. Answers labels, or probabilities where those are wanted and there are any."""

    thread_safe = True

    def __init__(self, name: str, directory: Path, *, probabilities: bool = False, allow_pickle: bool = True) -> None:
        super().__init__(name)
        self._directory = directory
        self._probabilities = probabilities
        self._allow_pickle = allow_pickle
        self._estimator: Any = None
        self._predict: Any = None

    def load(self) -> None:
        path = find_model_file(self._directory, EXTENSIONS)
        if not self._allow_pickle:
            raise BadModel(f"{path.name} is a pickle, which runs code when it is read, and LADLE_ALLOW_PICKLE is false")
        self._estimator = _read(path)
        wanted = "predict_proba" if self._probabilities else "predict"
        self._predict = getattr(self._estimator, wanted, None) or getattr(self._estimator, "predict", None)
        if self._predict is None:
            raise BadModel(f"{path.name} holds a {type(self._estimator).__name__}, which has no predict")

    def predict(self, request: InferRequest) -> Any:
        table = request.wants_table
        rows = request.as_dataframe() if table else request.as_array()
        if not table:
            self._check_shape(rows)
        try:
            return self._predict(rows)
        except ValueError as error:  # How scikit-learn says that the rows do not fit.
            raise InvalidInput(str(error)) from error

    def metadata(self) -> ModelMetadata:
        features = getattr(self._estimator, "n_features_in_", None)
        shape = (-1,) if features is None else (-1, features)
        return ModelMetadata(
            name=self.name,
            platform="sklearn",
            inputs=(TensorMetadata(_INPUT, "BYTES" if features is None else "FP64", shape),),
            outputs=(self._output(),),
            properties={"engine": "sklearn", "estimator": type(self._estimator).__name__},
        )

    def unload(self) -> None:
        self._estimator = self._predict = None

    def _output(self) -> TensorMetadata:
        classes = getattr(self._estimator, "classes_", None)
        if self._predict == getattr(self._estimator, "predict_proba", None):
            return TensorMetadata(DEFAULT_OUTPUT, "FP64", (-1, -1 if classes is None else len(classes)))
        datatype = "FP64" if classes is None else datatype_of(np.asarray(classes)).name
        return TensorMetadata(DEFAULT_OUTPUT, datatype, (-1,))

    def _check_shape(self, rows: Array) -> None:
        features = getattr(self._estimator, "n_features_in_", None)
        if features is not None and (rows.ndim != 2 or rows.shape[1] != features):
            raise InvalidInput(f"input has shape {list(rows.shape)}, expected [rows, {features}]")


def _read(path: Path) -> Any:
    import joblib

    try:
        return joblib.load(path)
    except Exception as error:  # A pickle runs code of its own: whatever it raises means that the file cannot be read.
        raise BadModel(f"{path.name} could not be read: {type(error).__name__}: {error}") from error
