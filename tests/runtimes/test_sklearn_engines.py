"""Acceleration: a graph answers only if it agrees with scikit-learn, nobody sees which engine answers, and why is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from ladle.errors import BadModel, UserError
from runtimes.sklearnserver.acceleration import NotAccelerated, _compare, accelerate
from runtimes.sklearnserver.model import SklearnModel
from runtimes.sklearnserver.settings import Engine, SklearnSettings
from tests.ladle.server.serving import served, tensor
from tests.waiting import eventually

pytest.importorskip("skl2onnx")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
FEATURES, LABELS = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[LABELS]


class Stubborn(ClassifierMixin, BaseEstimator):
    """An estimator that no converter knows."""

    def fit(self, features: Any, labels: Any) -> Stubborn:
        self.n_features_in_ = features.shape[1]
        self.classes_ = np.unique(labels)
        return self

    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), self.classes_[0])


class TestAgreement:
    @pytest.mark.parametrize(
        ("estimator", "labels"),
        [
            (LogisticRegression(max_iter=1000), LABELS),
            (make_pipeline(StandardScaler(), LogisticRegression()), NAMES),
            (RandomForestClassifier(30, random_state=0), LABELS),
            (GradientBoostingClassifier(n_estimators=10), LABELS),
            (DecisionTreeClassifier(), NAMES),
            (SVC(gamma="scale"), LABELS),
            (LinearRegression(), LABELS.astype(float)),
            (RandomForestRegressor(10, random_state=0), LABELS.astype(float)),
        ],
        ids=lambda value: type(value).__name__,
    )
    @pytest.mark.parametrize("probabilities", [False, True])
    def test_a_graph_answers_as_scikit_learn_does_to_the_type(
        self, estimator: Any, labels: Any, probabilities: bool
    ) -> None:
        fitted = estimator.fit(FEATURES, labels)
        if probabilities and not hasattr(fitted, "predict_proba"):
            pytest.skip("it has none")
        predict = fitted.predict_proba if probabilities else fitted.predict
        graph = accelerate(fitted, predict, probabilities=probabilities, threads=1)
        for rows in (FEATURES, FEATURES[:1], FEATURES.astype("float32"), FEATURES.astype("int64")):
            found, expected = graph.answer(rows), predict(rows)
            assert found is not None
            assert found.shape == expected.shape
            assert found.dtype == expected.dtype or expected.dtype.kind == "U"
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            else:
                assert found.tolist() == expected.tolist()

    @pytest.mark.parametrize("rows", [[[np.nan, 1, 2, 3]], [[np.inf, 1, 2, 3]], [["a", "b", "c", "d"]]])
    def test_rows_that_are_not_plain_numbers_are_scikit_learns(self, rows: Any) -> None:
        fitted = LogisticRegression(max_iter=1000).fit(FEATURES, LABELS)
        graph = accelerate(fitted, fitted.predict, probabilities=False, threads=1)
        assert graph.answer(np.asarray(rows)) is None

    @pytest.mark.parametrize(
        ("found", "expected", "reason"),
        [
            ([1, 2, 3], [1, 2, 2], "1 of 3 labels differ"),
            (["a"], ["b"], "1 of 1 labels differ"),
            ([0.5, 0.5], [0.5, 0.6], "numbers differ by up to 0.1"),
            ([1], [1, 2], r"the graph answers \[1\], scikit-learn \[2\]"),
        ],
    )
    def test_a_difference_is_a_reason_to_stay(self, found: list[Any], expected: list[Any], reason: str) -> None:
        with pytest.raises(NotAccelerated, match=reason):
            _compare(np.asarray(found), np.asarray(expected))

    def test_what_no_converter_knows_stays(self) -> None:
        fitted = Stubborn().fit(FEATURES, LABELS)
        with pytest.raises(NotAccelerated, match=r"float64: conversion failed: .*float32: conversion failed: "):
            accelerate(fitted, fitted.predict, probabilities=False, threads=1)


class Summing(RegressorMixin, BaseEstimator):
    """Whose converter, registered below, is wrong."""

    def fit(self, features: Any, _: Any) -> Summing:
        self.n_features_in_ = features.shape[1]
        return self

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows).sum(axis=1)


@pytest.fixture
def wrong_converter() -> None:
    """Registers a converter for Summing whose graph takes the mean: right for rows of zeros only."""
    import skl2onnx

    def shapes(operator: Any) -> None:
        operator.outputs[0].type = type(operator.inputs[0].type)([None, 1])

    def convert(scope: Any, operator: Any, container: Any) -> None:
        names = operator.inputs[0].full_name, operator.outputs[0].full_name
        container.add_node("ReduceMean", *names, op_version=13, axes=[1], keepdims=1)

    skl2onnx.update_registered_converter(Summing, "TestsSumming", shapes, convert, overwrite=True)


class TestWrongGraphs:
    @pytest.mark.usefixtures("wrong_converter")
    def test_a_graph_that_is_wrong_is_not_used(self, tmp_path: Path) -> None:
        fitted = Summing().fit(FEATURES, LABELS)
        with pytest.raises(NotAccelerated, match=r"float64: numbers differ by up to .*; float32: numbers differ"):
            accelerate(fitted, fitted.predict, probabilities=False, threads=1)
        joblib.dump(fitted, tmp_path / "model.joblib")
        with pytest.raises(BadModel, match="LADLE_SKLEARN_ENGINE=onnx, but float64: numbers differ"):
            SklearnModel("m", tmp_path, settings=SklearnSettings(engine=Engine.ONNX)).load()


class TestModel:
    def saved(self, directory: Path, estimator: Any) -> Path:
        joblib.dump(estimator, directory / "model.joblib")
        return directory

    async def test_a_model_that_is_asked_enough_is_converted_meanwhile(self, tmp_path: Path) -> None:
        fitted = RandomForestClassifier(20, random_state=0).fit(FEATURES, LABELS)
        settings = SklearnSettings(accelerate_after_s=0.0)
        async with served(SklearnModel("m", self.saved(tmp_path, fitted), settings=settings)) as app:
            body = {"inputs": [tensor("x", "FP64", [150, 4], FEATURES.tolist())]}
            first = json.loads((await app.v2("m", body)).body)["outputs"]

            async def engine() -> bool:
                metadata = json.loads((await app.get("/v2/models/m")).body)
                return bool(metadata["properties"]["engine"] == "onnx")

            await eventually("the graph answers", engine)
            assert json.loads((await app.v2("m", body)).body)["outputs"] == first
            assert 'ladle_model_engine{engine="onnx",model_name="m"} 1.0' in (await app.get("/metrics")).text
            missing = await app.v1("m", {"instances": [[None, 1, 2, 3]]})
            assert (missing.status, "predictions" in missing.text) == (200, True)  # Forests take missing values.

    async def test_a_model_that_cannot_be_converted_says_why(self, tmp_path: Path) -> None:
        from sklearn.ensemble import IsolationForest

        fitted = IsolationForest(n_estimators=5, random_state=0).fit(FEATURES)
        settings = SklearnSettings(accelerate_after_s=0.0)
        async with served(SklearnModel("m", self.saved(tmp_path, fitted), settings=settings)) as app:
            await app.v1("m", {"instances": FEATURES[:3].tolist()})

            async def reason() -> str:
                found = json.loads((await app.get("/v2/models/m")).body)["properties"].get("engine_reason", "")
                return found if "under way" not in found and "not been asked" not in found else ""

            assert "failed" in await eventually("the reason", reason) or "differ" in await reason()
            answer = await app.v1("m", {"instances": FEATURES[:3].tolist()})
            assert json.loads(answer.body)["predictions"] == fitted.predict(FEATURES[:3]).tolist()

    def test_scikit_learn_can_be_asked_for(self, tmp_path: Path) -> None:
        fitted = LogisticRegression(max_iter=1000).fit(FEATURES, LABELS)
        model = SklearnModel("m", self.saved(tmp_path, fitted), settings=SklearnSettings(engine=Engine.SKLEARN))
        model.load()
        assert model.metadata().properties["engine_reason"] == "LADLE_SKLEARN_ENGINE=sklearn"

    def test_a_graph_that_was_demanded_and_cannot_be_had_is_a_bad_model(self, tmp_path: Path) -> None:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import MultinomialNB

        fitted = make_pipeline(CountVectorizer(), MultinomialNB()).fit(["good film", "bad film"], [0, 1])
        model = SklearnModel("m", self.saved(tmp_path, fitted), settings=SklearnSettings(engine=Engine.ONNX))
        with pytest.raises(BadModel, match="does not take rows of numbers"):
            model.load()

    def test_settings_come_from_the_environment(self) -> None:
        env = {"PREDICT_PROBA": "true", "LADLE_SKLEARN_ENGINE": "onnx", "LADLE_SKOPS_TRUSTED": "a.B, c.D"}
        found = SklearnSettings.from_environment(env)
        assert (found.probabilities, found.engine, found.trusted) == (True, Engine.ONNX, ("a.B", "c.D"))
        with pytest.raises(UserError, match="LADLE_SKLEARN_ENGINE = fast, must be one of auto, sklearn, onnx"):
            SklearnSettings.from_environment({"LADLE_SKLEARN_ENGINE": "fast"})


class TestSkops:
    def test_a_file_of_known_types_is_read_without_running_code(self, tmp_path: Path) -> None:
        skops = pytest.importorskip("skops.io")
        fitted = LogisticRegression(max_iter=1000).fit(FEATURES, LABELS)
        skops.dump(fitted, tmp_path / "model.skops")
        model = SklearnModel("m", tmp_path, settings=SklearnSettings(allow_pickle=False))
        model.load()
        assert model.metadata().properties["estimator"] == "LogisticRegression"

    def test_types_that_nobody_trusts_are_named(self, tmp_path: Path) -> None:
        skops = pytest.importorskip("skops.io")
        skops.dump(Stubborn().fit(FEATURES, LABELS), tmp_path / "model.skops")
        with pytest.raises(BadModel, match=r"holds types that are not trusted: .*Stubborn; see LADLE_SKOPS_TRUSTED"):
            SklearnModel("m", tmp_path).load()
