"""A LightGBM booster behind V1, V2 and gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladle.errors import InvalidInput
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.results import DEFAULT_OUTPUT
from ladle.protocol.tensor import Array
from ladle.server.model import Model
from ladle.server.model_files import find_model_file

EXTENSIONS = (".bst", ".txt")


class LightGBMModel(Model):
    """The one booster in a directory. Rows with column names may leave columns out: those count as missing values."""

    thread_safe = True

    def __init__(self, name: str, directory: Path, *, threads: int = 1) -> None:
        super().__init__(name)
        self._directory = directory
        self._threads = threads
        self._booster: Any = None
        self._features: list[str] = []

    def load(self) -> None:
        import lightgbm

        path = find_model_file(self._directory, EXTENSIONS)
        self._booster = lightgbm.Booster(model_file=str(path))
        self._features = self._booster.feature_name()

    def predict(self, request: InferRequest) -> Any:
        if request.wants_table:
            table = request.as_dataframe()
            unknown = [name for name in table.columns if name not in self._features]
            if unknown:
                raise InvalidInput(f"columns {unknown} are unknown, the model has {self._features}")
            rows = table.reindex(columns=self._features)
        else:
            rows = request.as_array()
            self._check(rows)
        return self._booster.predict(rows, num_threads=self._threads)

    def metadata(self) -> ModelMetadata:
        classes = self._booster.num_model_per_iteration()
        return ModelMetadata(
            name=self.name,
            platform="lightgbm",
            inputs=(TensorMetadata("input-0", "FP64", (-1, len(self._features))),),
            outputs=(TensorMetadata(DEFAULT_OUTPUT, "FP64", (-1, classes) if classes > 1 else (-1,)),),
            properties={"engine": "lightgbm"},
        )

    def unload(self) -> None:
        self._booster = None

    def _check(self, rows: Array) -> None:
        if rows.ndim != 2 or rows.shape[1] != len(self._features):
            raise InvalidInput(f"input has shape {list(rows.shape)}, expected [rows, {len(self._features)}]")
        if rows.dtype.kind not in "fiub":
            raise InvalidInput(f"input holds {rows.dtype}, expected numbers")
