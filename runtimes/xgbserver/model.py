"""An XGBoost booster behind V1, V2 and gRPC."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ladle.errors import InvalidInput
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.results import DEFAULT_OUTPUT
from ladle.protocol.tensor import Array
from ladle.server.model import Model
from ladle.server.model_files import find_model_file

EXTENSIONS = (".bst", ".json", ".ubj")


class XGBoostModel(Model):
    """The one booster in a directory."""

    thread_safe = True

    def __init__(self, name: str, directory: Path, *, threads: int = 1) -> None:
        super().__init__(name)
        self._directory = directory
        self._threads = threads
        self._booster: Any = None
        self._xgboost: Any = None
        self._features = 0
        self._linear = False
        """Linear boosters predict from a DMatrix only."""

    def load(self) -> None:
        import xgboost

        path = find_model_file(self._directory, EXTENSIONS)
        self._xgboost = xgboost
        self._booster = xgboost.Booster(params={"nthread": self._threads}, model_file=str(path))
        self._features = self._booster.num_features()
        learner = json.loads(self._booster.save_config())["learner"]
        self._linear = learner["gradient_booster"]["name"] == "gblinear"

    def predict(self, request: InferRequest) -> Any:
        if request.wants_table:
            return self._booster.predict(self._matrix(request.as_dataframe()))
        rows = request.as_array()
        self._check(rows)
        if self._linear:
            return self._booster.predict(self._matrix(rows))
        # Without a DMatrix in between: the same numbers in half of the time for a few rows.
        return self._booster.inplace_predict(rows, missing=math.nan, validate_features=False)

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            name=self.name,
            platform="xgboost",
            inputs=(TensorMetadata("input-0", "FP32", (-1, self._features)),),
            outputs=(TensorMetadata(DEFAULT_OUTPUT, "FP32", (-1,)),),
            properties={"engine": "xgboost", "version": self._xgboost.__version__},
        )

    def unload(self) -> None:
        self._booster = None

    def _matrix(self, rows: Any) -> Any:
        try:
            matrix = self._xgboost.DMatrix(rows, nthread=self._threads)
            if matrix.num_col() != self._features:
                raise ValueError(f"input has {matrix.num_col()} columns, expected {self._features}")
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        return matrix

    def _check(self, rows: Array) -> None:
        if rows.ndim != 2 or rows.shape[1] != self._features:
            raise InvalidInput(f"input has shape {list(rows.shape)}, expected [rows, {self._features}]")
        if rows.dtype.kind not in "fiub":
            raise InvalidInput(f"input holds {rows.dtype}, expected numbers")
