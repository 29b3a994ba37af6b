"""Each runtime against its own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression

from runtimes.sklearnserver.model import SklearnModel
from runtimes.sklearnserver.settings import Engine, SklearnSettings
from tests.runtimes.conformance import Conformance, Subject

FEATURES, LABELS = load_iris(return_X_y=True)
ROWS = FEATURES[::30]


class TestSklearn(Conformance):
    def subject(self, directory: Path) -> Subject:
        directory.mkdir(exist_ok=True)
        fitted = LogisticRegression(max_iter=1000).fit(FEATURES, LABELS)
        joblib.dump(fitted, directory / "model.joblib")
        return Subject(SklearnModel("m", directory), ROWS, fitted.predict(ROWS))


class TestSklearnProbabilities(Conformance):
    def subject(self, directory: Path) -> Subject:
        directory.mkdir(exist_ok=True)
        fitted = LogisticRegression(max_iter=1000).fit(FEATURES, LABELS)
        joblib.dump(fitted, directory / "model.joblib")
        return Subject(
            SklearnModel("m", directory, settings=SklearnSettings(probabilities=True)), ROWS, fitted.predict_proba(ROWS)
        )


class TestSklearnByGraph(Conformance):
    """Forests, the estimators that gain most."""

    def subject(self, directory: Path) -> Subject:
        pytest.importorskip("skl2onnx")
        directory.mkdir(exist_ok=True)
        fitted = RandomForestClassifier(20, random_state=0).fit(FEATURES, LABELS)
        joblib.dump(fitted, directory / "model.joblib")
        return Subject(
            SklearnModel("m", directory, settings=SklearnSettings(engine=Engine.ONNX)), ROWS, fitted.predict(ROWS)
        )


class TestSklearnSeveralTargets(Conformance):
    """Regression: `(rows, targets)`."""

    def subject(self, directory: Path) -> Subject:
        directory.mkdir(exist_ok=True)
        targets = np.column_stack([FEATURES[:, 0] * 2, FEATURES[:, 1] - FEATURES[:, 2]])
        fitted = RandomForestRegressor(5, random_state=0).fit(FEATURES, targets)
        joblib.dump(fitted, directory / "model.joblib")
        return Subject(SklearnModel("m", directory), ROWS, fitted.predict(ROWS))


class TestSklearnSeveralTargetsProbabilities(Conformance):
    """scikit-learn answers with a list of arrays, one for each target: each is an output here."""

    def subject(self, directory: Path) -> Subject:
        directory.mkdir(exist_ok=True)
        targets = np.column_stack([LABELS, LABELS == 0])
        fitted = RandomForestClassifier(5, random_state=0).fit(FEATURES, targets)
        joblib.dump(fitted, directory / "model.joblib")
        model = SklearnModel("m", directory, settings=SklearnSettings(probabilities=True))
        return Subject(model, ROWS, fitted.predict_proba(ROWS)[1], output_name="output-1")


class TestSklearnTexts(Conformance):
    """Labels that are texts are BYTES."""

    def subject(self, directory: Path) -> Subject:
        directory.mkdir(exist_ok=True)
        names = np.array(["setosa", "versicolor", "virginica"])[LABELS]
        fitted = LogisticRegression(max_iter=1000).fit(FEATURES, names)
        joblib.dump(fitted, directory / "model.joblib")
        return Subject(SklearnModel("m", directory), ROWS, fitted.predict(ROWS))

    def same(self, found: Any, expected: np.ndarray) -> None:
        flat = np.asarray(found, dtype=object).reshape(-1)
        texts = [each.decode() if isinstance(each, bytes) else each for each in flat]
        assert texts == expected.reshape(-1).tolist()


class TestXGBoostRegression(Conformance):
    """One number for each row, and missing values among the features."""

    def subject(self, directory: Path) -> Subject:
        xgboost = pytest.importorskip("xgboost")
        from runtimes.xgbserver.model import XGBoostModel

        directory.mkdir(exist_ok=True)
        booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(FEATURES, FEATURES[:, 0]), num_boost_round=5)
        booster.save_model(directory / "model.ubj")
        rows = ROWS.copy()
        rows[0, 1] = np.nan
        return Subject(XGBoostModel("m", directory), rows, booster.predict(xgboost.DMatrix(rows)))


class TestLightGBMRegression(Conformance):
    def subject(self, directory: Path) -> Subject:
        lightgbm = pytest.importorskip("lightgbm")
        from runtimes.lgbserver.model import LightGBMModel

        directory.mkdir(exist_ok=True)
        parameters = {"objective": "regression", "verbose": -1, "num_threads": 1}
        booster = lightgbm.train(parameters, lightgbm.Dataset(FEATURES, FEATURES[:, 0]), num_boost_round=5)
        booster.save_model(directory / "model.txt")
        rows = ROWS.copy()
        rows[0, 1] = np.nan
        return Subject(LightGBMModel("m", directory), rows, booster.predict(rows))


class TestXGBoost(Conformance):
    extension = "json"

    def subject(self, directory: Path) -> Subject:
        xgboost = pytest.importorskip("xgboost")
        from runtimes.xgbserver.model import XGBoostModel

        directory.mkdir(exist_ok=True)
        parameters = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
        booster = xgboost.train(parameters, xgboost.DMatrix(FEATURES, LABELS), num_boost_round=10)
        booster.save_model(directory / f"model.{self.extension}")
        return Subject(XGBoostModel("m", directory), ROWS, booster.predict(xgboost.DMatrix(ROWS)))


class TestXGBoostLinear(Conformance):
    def subject(self, directory: Path) -> Subject:
        xgboost = pytest.importorskip("xgboost")
        from runtimes.xgbserver.model import XGBoostModel

        directory.mkdir(exist_ok=True)
        parameters = {"booster": "gblinear", "nthread": 1}
        booster = xgboost.train(parameters, xgboost.DMatrix(FEATURES, LABELS), num_boost_round=10)
        booster.save_model(directory / "model.ubj")
        return Subject(XGBoostModel("m", directory), ROWS, booster.predict(xgboost.DMatrix(ROWS)))


class TestLightGBM(Conformance):
    def subject(self, directory: Path) -> Subject:
        lightgbm = pytest.importorskip("lightgbm")
        from runtimes.lgbserver.model import LightGBMModel

        directory.mkdir(exist_ok=True)
        parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
        booster = lightgbm.train(parameters, lightgbm.Dataset(FEATURES, LABELS), num_boost_round=10)
        booster.save_model(directory / "model.bst")
        return Subject(LightGBMModel("m", directory), ROWS, booster.predict(ROWS))


class TestOnnx(Conformance):
    def subject(self, directory: Path) -> Subject:
        pytest.importorskip("onnxruntime")
        onnx = pytest.importorskip("onnx")
        from runtimes.onnxserver.model import OnnxModel

        directory.mkdir(exist_ok=True)
        weights = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
        helper = onnx.helper
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w"], ["y"]),
                helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
            ],
            "linear",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 4])],
            [
                helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 3]),
                helper.make_tensor_value_info("label", onnx.TensorProto.INT64, ["rows"]),
            ],
            [onnx.numpy_helper.from_array(weights, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        self.save(onnx, model, directory)
        rows = ROWS.astype(np.float32)
        return Subject(OnnxModel("m", directory), rows, rows @ weights, input_name="x", output_name="y")

    def save(self, onnx: object, model: object, directory: Path) -> None:
        (directory / "model.onnx").write_bytes(model.SerializeToString())  # type: ignore[attr-defined]


class TestOnnxWithExternalData(TestOnnx):
    def save(self, onnx: object, model: object, directory: Path) -> None:
        onnx.save_model(  # type: ignore[attr-defined]
            model,
            str(directory / "model.onnx"),
            save_as_external_data=True,
            location="weights.data",
            size_threshold=0,
        )
