"""The tabular transformer: the training's own feature step before a predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from ladle.errors import BadModel
from ladle.testing import FakePredictor, ask
from ladle.transformer.settings import PredictorSettings, Protocol
from runtimes.sklearnserver.settings import SklearnSettings
from transformer.tabular.model import TabularTransformer

pandas = pytest.importorskip("pandas")
ROWS = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 20.0]])
V1, V2 = PredictorSettings(), PredictorSettings(protocol=Protocol.V2)


def saved(directory: Path, step: Any) -> Path:
    joblib.dump(step, directory / "step.joblib")
    return directory


@pytest.mark.parametrize("settings", [V1, V2], ids=["v1", "v2"])
def test_rows_of_numbers_are_scaled(tmp_path: Path, settings: PredictorSettings) -> None:
    scaler = StandardScaler().fit(ROWS)
    predictor = FakePredictor([1, 0, 1])
    transformer = TabularTransformer("m", settings, directory=saved(tmp_path, scaler))
    assert ask(transformer, {"instances": ROWS.tolist()}, predictor=predictor).body == {"predictions": [1, 0, 1]}
    np.testing.assert_allclose(predictor.questions[0].as_array(), scaler.transform(ROWS))


@pytest.mark.parametrize("sparse", [0.0, 1.0], ids=["dense", "sparse"])
def test_rows_by_column_name_are_encoded(tmp_path: Path, sparse: float) -> None:
    table = pandas.DataFrame({"color": ["red", "blue", "red"], "size": [1.0, 2.0, 3.0]})
    step = make_column_transformer(
        (OneHotEncoder(), ["color"]), (StandardScaler(), ["size"]), sparse_threshold=sparse
    ).fit(table)
    predictor = FakePredictor([0])
    transformer = TabularTransformer("m", V2, directory=saved(tmp_path, step), input_name="features")
    columns = [
        {"name": "color", "shape": [1], "datatype": "BYTES", "data": ["blue"]},
        {"name": "size", "shape": [1], "datatype": "FP64", "data": [2.0]},
    ]
    assert ask(transformer, {"instances": [{"size": 2.0, "color": "blue"}]}, predictor=predictor).status == 200
    assert (
        ask(transformer, {"parameters": {"content_type": "pd"}, "inputs": columns}, predictor=predictor).status == 200
    )
    for question in predictor.questions:
        assert question.tensors[0].name == "features"
        np.testing.assert_allclose(question.as_array(), [[1.0, 0.0, 0.0]])


def test_rows_that_do_not_fit_are_a_400(tmp_path: Path) -> None:
    predictor = FakePredictor([0])
    transformer = TabularTransformer("m", V1, directory=saved(tmp_path, StandardScaler().fit(ROWS)))
    answer = ask(transformer, {"instances": [[1.0]]}, predictor=predictor)
    assert (answer.status, predictor.questions) == (400, [])
    assert "2 features" in answer.body["error"]


def test_what_is_no_feature_step_is_refused(tmp_path: Path) -> None:
    transformer = TabularTransformer("m", V1, directory=saved(tmp_path, SVC().fit(ROWS, [0, 1, 1])))
    with pytest.raises(BadModel, match="holds a SVC, which has no transform"):
        transformer.load()


def test_pickles_can_be_refused(tmp_path: Path) -> None:
    files = SklearnSettings(allow_pickle=False)
    transformer = TabularTransformer("m", V1, directory=saved(tmp_path, StandardScaler().fit(ROWS)), files=files)
    with pytest.raises(BadModel, match="LADLE_ALLOW_PICKLE is false"):
        transformer.load()
