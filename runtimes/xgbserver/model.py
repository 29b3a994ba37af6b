"""An XGBoost booster behind V1, V2 and gRPC."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ladle.protocol.messages import ModelMetadata, TensorMetadata
from ladle.protocol.results import DEFAULT_OUTPUT
from ladle.protocol.tensor import Array
from ladle.server.model_files import find_model_file
from runtimes.booster import BoosterModel
from runtimes.columns import Codes, Columns, codes_of

EXTENSIONS = (".bst", ".json", ".ubj")
_CATEGORICAL = "c"
"""XGBoost's feature type of a column whose numbers stand for categories."""


class XGBoostModel(BoosterModel):
    """The one booster in a directory. NaN, and null in JSON, is a missing value; rows by column name need all columns."""

    def __init__(self, name: str, directory: Path, *, threads: int = 1) -> None:
        super().__init__(name, directory, threads=threads)
        self._xgboost: Any = None
        self._linear = False
        """Linear boosters predict from a DMatrix only."""
        self._row_shape: tuple[int, ...] = ()

    def load(self) -> None:
        import xgboost

        path = find_model_file(self._directory, EXTENSIONS)
        self._xgboost = xgboost
        self._booster = xgboost.Booster(params={"nthread": self._threads}, model_file=str(path))
        self._columns = _columns(self._booster)
        learner = json.loads(self._booster.save_config())["learner"]
        self._linear = learner["gradient_booster"]["name"] == "gblinear"
        # What one row's answer looks like follows from objective, classes and targets; asking is simpler than knowing.
        self._row_shape = self._answer(np.zeros((1, len(self._columns.names)))).shape[1:]

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            name=self.name,
            platform="xgboost",
            inputs=(TensorMetadata("input-0", "FP32", (-1, len(self._columns.names))),),
            outputs=(TensorMetadata(DEFAULT_OUTPUT, "FP32", (-1, *self._row_shape)),),
            properties={"engine": "xgboost", "version": self._xgboost.__version__},
        )

    def _answer(self, rows: Array) -> Array:
        if self._linear:
            matrix = self._xgboost.DMatrix(rows, nthread=self._threads)
            answer: Array = self._booster.predict(matrix, validate_features=False)
            return answer
        # Without a DMatrix in between: the same numbers in half of the time for a few rows.
        found: Array = self._booster.inplace_predict(rows, missing=math.nan, validate_features=False)
        return found


def _columns(booster: Any) -> Columns:
    names = tuple(booster.feature_names or (f"f{index}" for index in range(booster.num_features())))
    types = booster.feature_types or []
    return Columns(names=names, categories=_categories(booster, names) if _CATEGORICAL in types else {})


def _categories(booster: Any, names: tuple[str, ...]) -> Mapping[str, Codes]:
    """The categories by column; {} for a file of XGBoost 3.0 and older, which holds their numbers only.

    From the model as JSON: XGBoost's own function for it needs pyarrow.
    """
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"].get("model", {})
    found = {}
    for name, encoded in zip(names, model.get("cats", {}).get("enc", []), strict=False):
        values, offsets = encoded.get("values", []), encoded.get("offsets", [])
        if offsets:  # Texts, one after the other, in UTF-8; the offsets say where each begins.
            raw = bytes(value % 256 for value in values)
            found[name] = codes_of([raw[a:b].decode() for a, b in itertools.pairwise(offsets)])
        elif values:
            found[name] = codes_of(values)
    return found
