"""A fitted scikit-learn pipeline as the step before a predictor: scaling, encoding, imputing, as in the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ladle.errors import BadModel, InvalidInput
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.protocol.tensor import tensor_of
from ladle.server.model_files import find_model_file
from ladle.transformer.settings import PredictorSettings, Protocol
from ladle.transformer.transformer import Transformer
from runtimes.sklearnserver.files import read_estimator
from runtimes.sklearnserver.settings import SklearnSettings

EXTENSIONS = (".joblib", ".pkl", ".pickle", ".skops")


class TabularTransformer(Transformer):
    """Rows, with column names or without, through `transform`; the features to the predictor, its answer to the client."""

    def __init__(
        self,
        name: str,
        predictor: PredictorSettings,
        *,
        directory: Path,
        files: SklearnSettings | None = None,
        input_name: str = "input-0",
    ) -> None:
        super().__init__(name, predictor)
        self._directory = directory
        self._files = files or SklearnSettings()
        self._input_name = input_name
        self._step: Any = None

    def load(self) -> None:
        path = find_model_file(self._directory, EXTENSIONS)
        self._step = read_estimator(path, self._files)
        if not hasattr(self._step, "transform"):
            raise BadModel(f"{path.name} holds a {type(self._step).__name__}, which has no transform")

    def preprocess(self, request: InferRequest) -> Any:
        rows = request.as_dataframe() if request.wants_table else request.as_array()
        try:
            features = self._step.transform(rows)
        except (ValueError, KeyError) as error:  # How scikit-learn says that the rows do not fit.
            raise InvalidInput(str(error)) from error
        # Encoders of many categories and of texts give sparse matrices, which have no form on the wire.
        features = np.asarray(features.toarray() if hasattr(features, "toarray") else features)
        if self.settings.protocol is Protocol.V1:
            return {"instances": features}
        return tensor_of(self._input_name, features)

    def metadata(self) -> ModelMetadata:
        width = getattr(self._step, "n_features_in_", -1)
        return ModelMetadata(
            name=self.name,
            platform="ladle-tabular-transformer",
            inputs=(TensorMetadata("input-0", "FP64", (-1, width)),),
            properties={"engine": "transformer", "step": type(self._step).__name__},
        )
