"""The scikit-learn runtime: the numbers of the library itself by every protocol, and what it says of bad files."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from ladle.errors import BadModel
from ladle.server.model_files import find_model_file
from runtimes.sklearnserver.model import EXTENSIONS, SklearnModel
from runtimes.sklearnserver.settings import SklearnSettings
from tests.ladle.server.serving import served, tensor

DEADLINE_S = 60.0
ROWS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
PROBABILITIES = SklearnSettings(probabilities=True)
FEATURES, LABELS = load_iris(return_X_y=True)


def saved(directory: Path, estimator: Any, name: str = "model.joblib") -> Path:
    directory.mkdir(exist_ok=True)
    joblib.dump(estimator, directory / name)
    return directory


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("iris"), SVC(gamma="scale").fit(FEATURES, LABELS))


class TestAnswers:
    async def test_kserves_iris_example(self, iris: Path) -> None:
        async with served(SklearnModel("iris", iris)) as app:
            assert (await app.v1("iris", {"instances": ROWS})).text == '{"predictions":[1,1]}'
            answer = await app.v2("iris", {"inputs": [tensor("input-0", "FP32", [2, 4], ROWS)]})
            assert json.loads(answer.body)["outputs"] == [tensor("output-0", "INT64", [2], [1, 1])]

    @pytest.mark.parametrize(
        "estimator",
        [
            LogisticRegression(max_iter=1000),
            RandomForestClassifier(20, random_state=0),
            LinearRegression(),
            SVC(gamma="scale"),
        ],
        ids=lambda estimator: type(estimator).__name__,
    )
    @pytest.mark.parametrize("kind", ["float64", "float32", "int32"])
    async def test_answers_are_the_librarys_own(self, tmp_path: Path, estimator: Any, kind: str) -> None:
        fitted = estimator.fit(FEATURES, LABELS)
        rows = (FEATURES[::10] * 10).astype(kind)
        datatype = {"float64": "FP64", "float32": "FP32", "int32": "INT32"}[kind]
        async with served(SklearnModel("m", saved(tmp_path, fitted))) as app:
            first = json.loads((await app.v1("m", {"instances": rows.tolist()})).body)["predictions"]
            body = {"inputs": [tensor("x", datatype, list(rows.shape), rows.reshape(-1).tolist())]}
            second = json.loads((await app.v2("m", body)).body)["outputs"][0]["data"]
        assert first == pytest.approx(fitted.predict(rows.astype(float)).tolist(), rel=1e-6)
        assert second == pytest.approx(fitted.predict(rows).tolist(), rel=1e-6)

    async def test_probabilities_where_they_are_wanted(self, tmp_path: Path) -> None:
        fitted = LogisticRegression(max_iter=1000).fit(FEATURES, LABELS)
        async with served(SklearnModel("m", saved(tmp_path, fitted), settings=PROBABILITIES)) as app:
            found = json.loads((await app.v1("m", {"instances": ROWS})).body)["predictions"]
            metadata = json.loads((await app.get("/v2/models/m")).body)
        np.testing.assert_array_equal(found, fitted.predict_proba(ROWS))
        assert metadata["outputs"] == [{"name": "output-0", "datatype": "FP64", "shape": [-1, 3]}]

    async def test_labels_where_there_are_no_probabilities(self, tmp_path: Path) -> None:
        fitted = LinearRegression().fit(FEATURES, LABELS)
        async with served(SklearnModel("m", saved(tmp_path, fitted), settings=PROBABILITIES)) as app:
            assert (await app.v1("m", {"instances": ROWS})).status == 200

    async def test_texts_go_in_and_come_out(self, tmp_path: Path) -> None:
        texts, moods = ["good film", "bad film", "good good", "bad bad"], ["joy", "woe", "joy", "woe"]
        fitted = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, moods)
        async with served(SklearnModel("m", saved(tmp_path, fitted))) as app:
            assert (await app.v1("m", {"instances": texts})).text == '{"predictions":["joy","woe","joy","woe"]}'
            answer = await app.v2("m", {"inputs": [tensor("x", "BYTES", [1], ["bad"])]})
            assert json.loads(answer.body)["outputs"] == [tensor("output-0", "BYTES", [1], ["woe"])]

    async def test_metadata_tells_what_the_model_takes(self, iris: Path) -> None:
        async with served(SklearnModel("iris", iris)) as app:
            metadata = json.loads((await app.get("/v2/models/iris")).body)
        assert metadata["platform"] == "sklearn"
        assert metadata["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 4]}]
        assert metadata["outputs"] == [{"name": "output-0", "datatype": "INT64", "shape": [-1]}]
        assert metadata["properties"]["engine"] == "sklearn"
        assert metadata["properties"]["estimator"] == "SVC"
        assert "not been asked enough" in metadata["properties"]["engine_reason"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("instances", "error"),
        [
            ([[1, 2]], "input has shape [1, 2], expected [rows, 4]"),
            ([1, 2, 3, 4], "input has shape [4], expected [rows, 4]"),
            ([["a", "b", "c", "d"]], "could not convert string to float"),
            ([[None, 1, 2, 3]], "contains NaN"),
            ([], "input has shape [0], expected [rows, 4]"),
        ],
    )
    async def test_rows_that_do_not_fit_are_a_400(self, iris: Path, instances: list[Any], error: str) -> None:
        async with served(SklearnModel("iris", iris)) as app:
            answer = await app.v1("iris", {"instances": instances})
        assert answer.status == 400
        assert error in json.loads(answer.body)["error"]


class TestFiles:
    @pytest.mark.parametrize("name", ["model.joblib", "other.pkl", "x.pickle"])
    def test_one_file_of_any_of_the_three_endings(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).touch()
        (tmp_path / "README.md").touch()
        assert find_model_file(tmp_path, EXTENSIONS) == tmp_path / name

    def test_the_path_may_be_the_file_itself(self, tmp_path: Path) -> None:
        (tmp_path / "model.joblib").touch()
        assert find_model_file(tmp_path / "model.joblib", EXTENSIONS) == tmp_path / "model.joblib"

    def test_a_link_to_a_file_counts(self, tmp_path: Path) -> None:
        (tmp_path / "source").touch()
        (tmp_path / "model.joblib").symlink_to(tmp_path / "source")
        assert find_model_file(tmp_path, EXTENSIONS) == tmp_path / "model.joblib"

    @pytest.mark.parametrize(
        ("names", "complaint"),
        [
            ([], "found nothing"),
            (["a.bst", "b.txt"], r"expected one \*.joblib, \*.pkl, \*.pickle, \*.skops, found a.bst, b.txt"),
            (["a.joblib", "b.pkl"], "only one is allowed: a.joblib, b.pkl"),
        ],
    )
    def test_none_or_several_are_refused(self, tmp_path: Path, names: list[str], complaint: str) -> None:
        for name in names:
            (tmp_path / name).touch()
        with pytest.raises(BadModel, match=complaint):
            find_model_file(tmp_path, EXTENSIONS)

    def test_a_missing_directory_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BadModel, match="nowhere does not exist"):
            find_model_file(tmp_path / "nowhere", EXTENSIONS)

    def test_pickles_can_be_refused(self, iris: Path) -> None:
        with pytest.raises(BadModel, match="LADLE_ALLOW_PICKLE is false"):
            SklearnModel("iris", iris, settings=SklearnSettings(allow_pickle=False)).load()

    def test_what_is_no_estimator_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadModel, match=r"model.joblib holds a dict, which has no predict"):
            SklearnModel("m", saved(tmp_path, {"a": 1})).load()


class TestProcess:
    def run(self, directory: Path, log: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "runtimes.sklearnserver", f"--model_dir={directory}", *arguments],
            env={
                **os.environ,
                "LADLE_TERMINATION_LOG": str(log),
                "LADLE_HOST": "127.0.0.1",
                "LADLE_HTTP_PORT": "0",
                **env,
            },
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"not a pickle", "could not be loaded"),
            (b"", "EOFError"),
            (pickle.dumps(SVC())[:20], "could not be loaded"),
            (b"cno_such_module\nThing\n.", "ModuleNotFoundError: No module named 'no_such_module'"),
        ],
    )
    def test_a_file_that_cannot_be_loaded_ends_it_with_the_exceptions_text(
        self, tmp_path: Path, content: bytes, reason: str
    ) -> None:
        (tmp_path / "model.joblib").write_bytes(content)
        ended = self.run(tmp_path, tmp_path / "last-words", "--model_name", "iris")
        assert ended.returncode == 1
        assert reason in (tmp_path / "last-words").read_text()
        assert "Model iris could not be loaded" in ended.stderr

    def test_a_file_that_ends_the_process_leaves_its_model_in_the_last_line(self, tmp_path: Path) -> None:
        (tmp_path / "model.joblib").write_bytes(b"cos\n_exit\n(I3\ntR.")
        ended = self.run(tmp_path, tmp_path / "last-words", "--model_name", "iris")
        assert ended.returncode == 3
        last = json.loads((ended.stdout + ended.stderr).splitlines()[-1])
        assert (last["event"], last["model"]) == ("loading model", "iris")

    def test_a_setting_that_is_no_number_is_named(self, tmp_path: Path) -> None:
        ended = self.run(tmp_path, tmp_path / "last-words", CONTAINER_CONCURRENCY="many")
        assert ended.returncode == 1
        assert (tmp_path / "last-words").read_text() == "CONTAINER_CONCURRENCY = many, must be a number of at least 0"
