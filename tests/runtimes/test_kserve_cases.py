"""KServe's own replay cases that a runtime answers alone (spec/kserve.md 6.4), with models trained here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ladle.protocol.grpc.schema import message_class
from runtimes.sklearnserver.model import SklearnModel
from tests.ladle.server.serving import served, tensor
from tests.runtimes.conformance import call

IRIS_ROWS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
COLUMNS = ["sepal_length_(cm)", "sepal_width_(cm)", "petal_length_(cm)", "petal_width_(cm)"]
VALUES = [5.1, 3.5, 1.4, 0.2]
pandas = pytest.importorskip("pandas")


class TestMixedTypes:
    """Case 7: a house by its ten columns, texts and numbers, as KServe's MIXED requests have them."""

    HOUSES: Any = pandas.DataFrame(
        {
            "MSZoning": ["RL", "RM", "RL", "FV"],
            "LotArea": [8450, 9600, 11250, 9550],
            "LotShape": ["Reg", "Reg", "IR1", "IR1"],
            "Utilities": ["AllPub", "AllPub", "AllPub", "NoSeWa"],
            "YrSold": [2008, 2007, 2008, 2006],
            "Neighborhood": ["CollgCr", "Veenker", "CollgCr", "Crawfor"],
            "OverallQual": [7, 6, 8, 5],
            "YearBuilt": [2003, 1976, 2001, 1915],
            "SaleType": ["WD", "WD", "New", "WD"],
            "GarageArea": [548, 460, 608, 642],
        }
    )
    PRICES = np.array([12.2, 12.1, 12.3, 11.8])
    TEXTS = ("MSZoning", "LotShape", "Utilities", "Neighborhood", "SaleType")

    @pytest.fixture
    def model(self, tmp_path: Path) -> Any:
        from sklearn.compose import make_column_transformer

        encoder = make_column_transformer((OneHotEncoder(), list(self.TEXTS)), remainder="passthrough")
        self.fitted = make_pipeline(encoder, LinearRegression()).fit(self.HOUSES, self.PRICES)
        joblib.dump(self.fitted, tmp_path / "model.joblib")
        return SklearnModel("m", tmp_path)

    def columns(self, rows: Any) -> list[dict[str, Any]]:
        """An input of shape (rows,) for each column: BYTES for texts, INT32 for numbers."""
        return [
            tensor(name, "BYTES" if name in self.TEXTS else "INT32", [len(rows)], rows[name].tolist())
            for name in self.HOUSES.columns
        ]

    async def test_v1_rows_are_objects(self, model: Any) -> None:
        async with served(model) as app:
            answer = await app.v1("m", {"instances": self.HOUSES.to_dict(orient="records")})
        assert json.loads(answer.body)["predictions"] == pytest.approx(self.fitted.predict(self.HOUSES).tolist())

    @pytest.mark.parametrize("rows", [1, 4])
    async def test_v2_inputs_are_columns(self, model: Any, rows: int) -> None:
        houses = self.HOUSES.iloc[:rows]
        async with served(model) as app:
            answer = await app.v2("m", {"parameters": {"content_type": "pd"}, "inputs": self.columns(houses)})
        (output,) = json.loads(answer.body)["outputs"]
        assert output["data"] == pytest.approx(self.fitted.predict(houses).tolist())

    async def test_grpc_inputs_are_columns_in_any_order(self, model: Any) -> None:
        request = message_class("inference.ModelInferRequest")(model_name="m")
        request.parameters["content_type"].string_param = "pd"
        for column in reversed(self.columns(self.HOUSES)):
            field = "bytes_contents" if column["datatype"] == "BYTES" else "int_contents"
            values = [value.encode() if isinstance(value, str) else value for value in column["data"]]
            item = request.inputs.add(name=column["name"], datatype=column["datatype"], shape=column["shape"])
            getattr(item.contents, field).extend(values)
        async with served(model, grpc_port=0) as app:
            (output,) = (await call(app, request)).outputs
        assert list(output.contents.fp64_contents) == pytest.approx(self.fitted.predict(self.HOUSES).tolist())

    async def test_a_missing_column_is_a_400_that_names_it(self, model: Any) -> None:
        row = self.HOUSES.iloc[:1].drop(columns="MSZoning")
        async with served(model) as app:
            answer = await app.v1("m", {"instances": row.to_dict(orient="records")})
        assert answer.status == 400
        assert "MSZoning" in answer.text

    @pytest.mark.parametrize(
        "inputs",
        [
            [tensor("a", "FP32", [1], [1.0]), tensor("b", "FP32", [2], [1.0, 2.0])],
            [tensor("a", "FP32", [1, 2], [1.0, 2.0])],
        ],
    )
    async def test_columns_that_are_no_table_are_a_400(self, model: Any, inputs: list[Any]) -> None:
        async with served(model) as app:
            assert (await app.v2("m", {"parameters": {"content_type": "pd"}, "inputs": inputs})).status == 400


class TestLightGBM:
    """Case 10: the three shapes in which clients send a row with column names; the last one lacks a column."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Any:
        lightgbm = pytest.importorskip("lightgbm")
        from runtimes.lgbserver.model import LightGBMModel

        features, labels = load_iris(return_X_y=True)
        data = lightgbm.Dataset(pandas.DataFrame(features, columns=COLUMNS), labels)
        parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
        lightgbm.train(parameters, data, num_boost_round=20).save_model(tmp_path / "model.bst")
        return LightGBMModel("m", tmp_path)

    @pytest.mark.parametrize(
        "inputs",
        [
            [dict(zip(COLUMNS, ([value] for value in VALUES), strict=True))],
            [[{name: [value]} for name, value in zip(COLUMNS, VALUES, strict=True)]],
            [[{name: [value]} for name, value in list(zip(COLUMNS, VALUES, strict=True))[:3]]],
        ],
        ids=["v3", "v4", "v5"],
    )
    async def test_rows_with_column_names(self, model: Any, inputs: list[Any]) -> None:
        async with served(model) as app:
            answer = await app.v1("m", {"inputs": inputs})
        assert answer.status == 200, answer.text
        assert int(np.argmax(json.loads(answer.body)["predictions"][0])) == 0

    async def test_an_unknown_column_is_a_400_that_lists_the_known(self, model: Any) -> None:
        async with served(model) as app:
            answer = await app.v1("m", {"inputs": [{"nope": 1}]})
        assert answer.status == 400
        assert "petal_width_(cm)" in answer.text

    async def test_tensors(self, model: Any) -> None:
        """Case 11."""
        async with served(model) as app:
            answer = await app.v2("m", {"inputs": [tensor("input-0", "FP32", [2, 4], IRIS_ROWS)]})
        (output,) = json.loads(answer.body)["outputs"]
        assert (output["shape"], len(output["data"])) == ([2, 3], 6)


class TestXGBoost:
    @pytest.mark.parametrize("name", ["model.bst", "model.json", "model.ubj"])
    async def test_iris_by_every_file_and_protocol(self, tmp_path: Path, name: str) -> None:
        """Cases 8 and 9."""
        xgboost = pytest.importorskip("xgboost")
        from runtimes.xgbserver.model import XGBoostModel

        features, labels = load_iris(return_X_y=True)
        parameters = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
        booster = xgboost.train(parameters, xgboost.DMatrix(features, labels), num_boost_round=20)
        (tmp_path / name).write_bytes(booster.save_raw("json" if name.endswith("json") else "ubj"))
        async with served(XGBoostModel("m", tmp_path)) as app:
            assert json.loads((await app.v1("m", {"instances": IRIS_ROWS})).body)["predictions"] == [1, 1]
            answer = await app.v2("m", {"inputs": [tensor("input-0", "FP32", [2, 4], IRIS_ROWS)]})
            assert json.loads(answer.body)["outputs"] == [tensor("output-0", "FP32", [2], [1.0, 1.0])]
            row = dict(zip(("f0", "f1", "f2", "f3"), IRIS_ROWS[0], strict=True))
            assert (await app.v1("m", {"instances": [row]})).text == '{"predictions":[1.0]}'

    async def test_columns_are_found_by_name_in_any_order(self, tmp_path: Path) -> None:
        model, booster, table = self.categorical(tmp_path)
        rows = table.iloc[:6][["size", "color"]].to_dict(orient="records")
        async with served(model) as app:
            found = json.loads((await app.v1("m", {"instances": rows})).body)["predictions"]
        np.testing.assert_allclose(found, booster.predict(dmatrix(table.iloc[:6])), rtol=1e-6)

    async def test_categories_travel_as_bytes(self, tmp_path: Path) -> None:
        model, booster, table = self.categorical(tmp_path)
        inputs = [
            tensor("color", "BYTES", [6], table["color"].iloc[:6].tolist()),
            tensor("size", "FP64", [6], table["size"].iloc[:6].tolist()),
        ]
        async with served(model) as app:
            answer = await app.v2("m", {"parameters": {"content_type": "pd"}, "inputs": inputs})
        (output,) = json.loads(answer.body)["outputs"]
        np.testing.assert_allclose(output["data"], booster.predict(dmatrix(table.iloc[:6])), rtol=1e-6)

    @pytest.mark.parametrize(
        ("row", "error"),
        [
            ({"color": "purple", "size": 1}, "column 'color' holds 'purple', which the model does not know; it knows"),
            ({"color": "red"}, "columns ['size'] are missing"),
            ({"color": "red", "size": 1, "more": 1}, "columns ['more'] are unknown"),
            ({"color": "red", "size": "big"}, "column 'size' must hold numbers"),
        ],
    )
    async def test_a_row_that_does_not_fit_names_the_column(self, tmp_path: Path, row: Any, error: str) -> None:
        model, _, _ = self.categorical(tmp_path)
        async with served(model) as app:
            answer = await app.v1("m", {"instances": [row]})
        assert answer.status == 400
        assert error in json.loads(answer.body)["error"]

    async def test_a_missing_value_is_missing_and_not_a_category(self, tmp_path: Path) -> None:
        model, booster, table = self.categorical(tmp_path)
        expected = table.iloc[:1].assign(size=np.nan)
        row = {"color": table["color"].iloc[0], "size": None}
        async with served(model) as app:
            found = json.loads((await app.v1("m", {"instances": [row]})).body)["predictions"]
        np.testing.assert_allclose(found, booster.predict(dmatrix(expected)), rtol=1e-6)

    def categorical(self, directory: Path) -> tuple[Any, Any, Any]:
        xgboost = pytest.importorskip("xgboost", minversion="3.1", reason="older files hold no categories")
        from runtimes.xgbserver.model import XGBoostModel

        table, prices = colored()
        booster = xgboost.train({"nthread": 1, "tree_method": "hist"}, dmatrix(table, prices), num_boost_round=10)
        booster.save_model(directory / "model.json")
        return XGBoostModel("m", directory), booster, table


def dmatrix(table: Any, prices: Any = None) -> Any:
    import xgboost

    return xgboost.DMatrix(table, prices, enable_categorical=True)


def colored() -> tuple[Any, Any]:
    """Things by color and size, with what they cost."""
    colors = ["red", "green", "blue"] * 40
    table = pandas.DataFrame({"color": pandas.Categorical(colors), "size": np.arange(120.0) % 7})
    return table, table["color"].map({"red": 10.0, "green": 20.0, "blue": 40.0}).astype(float) + table["size"]


class TestLightGBMCategories:
    @pytest.fixture
    def trained(self, tmp_path: Path) -> tuple[Any, Any, Any]:
        lightgbm = pytest.importorskip("lightgbm")
        from runtimes.lgbserver.model import LightGBMModel

        table, prices = colored()
        parameters = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2, "min_data_per_group": 2}
        booster = lightgbm.train(parameters, lightgbm.Dataset(table, prices), num_boost_round=10)
        booster.save_model(tmp_path / "model.txt")
        return LightGBMModel("m", tmp_path), booster, table

    async def test_texts_are_the_categories_of_the_training(self, trained: tuple[Any, Any, Any]) -> None:
        model, booster, table = trained
        rows = table.iloc[:6][["size", "color"]].to_dict(orient="records")
        async with served(model) as app:
            found = json.loads((await app.v1("m", {"instances": rows})).body)["predictions"]
        np.testing.assert_allclose(found, booster.predict(table.iloc[:6]))

    async def test_a_new_category_is_a_missing_value_as_in_lightgbm(self, trained: tuple[Any, Any, Any]) -> None:
        model, booster, table = trained
        unknown = table.iloc[:1].copy()
        unknown["color"] = pandas.Categorical([None], categories=table["color"].cat.categories)
        async with served(model) as app:
            row = {"color": "purple", "size": float(table["size"].iloc[0])}
            found = json.loads((await app.v1("m", {"instances": [row]})).body)["predictions"]
        np.testing.assert_allclose(found, booster.predict(unknown))
