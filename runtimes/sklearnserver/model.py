"""A scikit-learn estimator behind V1 and V2."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from ladle.clock import SystemClock
from ladle.errors import BadModel, InvalidInput
from ladle.log import get_logger
from ladle.protocol.datatypes import datatype_of
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.results import DEFAULT_OUTPUT, v2_response
from ladle.protocol.tensor import Array, tensor_of
from ladle.server.model import Model
from ladle.server.model_files import find_model_file
from runtimes.sklearnserver.acceleration import Graph, NotAccelerated, accelerate
from runtimes.sklearnserver.files import read_estimator
from runtimes.sklearnserver.settings import Engine, SklearnSettings

EXTENSIONS = (".joblib", ".pkl", ".pickle", ".skops")
_INPUT = "input-0"
_NOT_YET = "the model has not been asked enough to be worth a conversion"
_clock = SystemClock()
log = get_logger(__name__)


class SklearnModel(Model):
    """The one estimator in a directory. Answers labels, or probabilities where those are wanted and there are any."""

    thread_safe = True

    def __init__(self, name: str, directory: Path, *, settings: SklearnSettings | None = None) -> None:
        super().__init__(name)
        self._directory = directory
        self._settings = settings or SklearnSettings()
        self._estimator: Any = None
        self._predict: Any = None
        self._graph: Graph | None = None
        self._spent_s = 0.0
        """Time in scikit-learn's predictions. Threads may lose one another's addition, which does no harm."""
        self._engine_reason = ""
        """Why scikit-learn itself answers."""
        self._outputs: tuple[TensorMetadata, ...] = ()

    def load(self) -> None:
        path = find_model_file(self._directory, EXTENSIONS)
        self._estimator = read_estimator(path, self._settings)
        wanted = "predict_proba" if self._settings.probabilities else "predict"
        self._predict = getattr(self._estimator, wanted, None) or getattr(self._estimator, "predict", None)
        if self._predict is None:
            raise BadModel(f"{path.name} holds a {type(self._estimator).__name__}, which has no predict")
        self._outputs = self._find_outputs()
        self._graph, self._engine_reason = None, ""
        self._spent_s = 0.0
        self._decide_engine()

    def predict(self, request: InferRequest) -> Any:
        table = request.wants_table
        rows = self._in_order(request.as_dataframe()) if table else request.as_array()
        if not table:
            self._check_shape(rows)
        if self._graph is not None and not table:
            answer = self._graph.answer(rows)
            if answer is not None:
                return answer
        began_s = _clock.monotonic_s()
        try:
            return _by_row(self._predict(rows))
        except ValueError as error:  # How scikit-learn says that the rows do not fit.
            raise InvalidInput(str(error)) from error
        finally:
            self._spend(_clock.monotonic_s() - began_s)

    def metadata(self) -> ModelMetadata:
        features = getattr(self._estimator, "n_features_in_", None)
        shape = (-1,) if features is None else (-1, features)
        return ModelMetadata(
            name=self.name,
            platform="sklearn",
            inputs=(TensorMetadata(_INPUT, "BYTES" if features is None else "FP64", shape),),
            outputs=self._outputs,
            properties=self._properties(),
        )

    def unload(self) -> None:
        self._estimator = self._predict = self._graph = None

    def _properties(self) -> dict[str, str]:
        properties = {
            "engine": "sklearn" if self._graph is None else "onnx",
            "estimator": type(self._estimator).__name__,
        }
        if self._engine_reason:
            properties["engine_reason"] = self._engine_reason
        return properties

    def _decide_engine(self) -> None:
        """What the settings leave open is decided later, when it is known that the model is used."""
        engine = self._settings.engine
        if engine is Engine.SKLEARN:
            self._engine_reason = "LADLE_SKLEARN_ENGINE=sklearn"
        elif engine is Engine.ONNX:
            self._accelerate(self._estimator, self._predict)
            if self._graph is None:
                raise BadModel(f"LADLE_SKLEARN_ENGINE=onnx, but {self._engine_reason}")
        else:
            self._engine_reason = _NOT_YET

    def _spend(self, seconds: float) -> None:
        self._spent_s += seconds
        if self._spent_s >= self._settings.accelerate_after_s and self._engine_reason == _NOT_YET:
            self._engine_reason = "the conversion is under way"
            # Beside the requests, which should not wait for it.
            arguments = (self._estimator, self._predict)
            threading.Thread(target=self._accelerate, args=arguments, name="accelerate", daemon=True).start()

    def _accelerate(self, estimator: Any, predict: Any) -> None:
        graph, reason = None, ""
        try:
            graph = accelerate(estimator, predict, probabilities=self._gives_probabilities, threads=1)
        except NotAccelerated as error:
            reason = str(error)
        if estimator is self._estimator:  # It may have been unloaded, or loaded anew, meanwhile.
            self._graph, self._engine_reason = graph, reason
            log.info("engine chosen", model=self.name, **self._properties())

    @property
    def _gives_probabilities(self) -> bool:
        return bool(self._predict == getattr(self._estimator, "predict_proba", None))

    def _find_outputs(self) -> tuple[TensorMetadata, ...]:
        """What one row's answer looks like: asked of the estimator, as attributes tell of some kinds only."""
        features = getattr(self._estimator, "n_features_in_", None)
        try:
            answer = v2_response(
                _by_row(self._predict(np.zeros((1, int(features or 0))))), InferRequest(model_name=self.name)
            )
        except Exception:  # noqa: BLE001  # Estimators raise what they like; one that takes no numbers does.
            return (TensorMetadata(DEFAULT_OUTPUT, self._label_datatype(), (-1,)),)
        return tuple(
            TensorMetadata(tensor.name, tensor.datatype.name, (-1, *tensor.shape[1:])) for tensor in answer.outputs
        )

    def _label_datatype(self) -> str:
        classes = getattr(self._estimator, "classes_", None)
        return "FP64" if classes is None or isinstance(classes, list) else datatype_of(np.asarray(classes)).name

    def _in_order(self, table: Any) -> Any:
        """Columns as scikit-learn wants them, in the order of the training; JSON objects have none."""
        names = getattr(self._estimator, "feature_names_in_", None)
        return table[list(names)] if names is not None and set(names) == set(table.columns) else table

    def _check_shape(self, rows: Array) -> None:
        features = getattr(self._estimator, "n_features_in_", None)
        if features is not None and (rows.ndim != 2 or rows.shape[1] != features):
            raise InvalidInput(f"input has shape {list(rows.shape)}, expected [rows, {features}]")


def _by_row(answer: Any) -> Any:
    """Probabilities of several targets come as a list of arrays, one for each: here as outputs, each with all rows."""
    if isinstance(answer, list) and answer and all(isinstance(item, np.ndarray) for item in answer):
        return [tensor_of(f"output-{index}", item) for index, item in enumerate(answer)]
    return answer
