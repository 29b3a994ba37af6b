"""One onebox for a module of tests, and the iris model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.svm import SVC

from tests.e2e.box import Box, start_box, stop_box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A running onebox in a home whose path has a space in it."""
    started = start_box(tmp_path_factory.mktemp("one box") / "home")
    yield started
    stop_box(started)


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with model.joblib: a support vector classifier of the iris data."""
    folder = tmp_path_factory.mktemp("models") / "iris"
    folder.mkdir()
    features, labels = load_iris(return_X_y=True)
    joblib.dump(SVC(gamma="scale").fit(features, labels), folder / "model.joblib")
    return folder
