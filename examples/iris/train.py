"""Trains an iris classifier and writes what serving it takes: build/model/model.joblib and build/inferenceservice.yaml."""

from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.svm import SVC

HERE = Path(__file__).parent
BUILD = HERE / "build"


def main() -> None:
    features, labels = load_iris(return_X_y=True)
    model = SVC(gamma="scale").fit(features, labels)
    (BUILD / "model").mkdir(parents=True, exist_ok=True)
    joblib.dump(model, BUILD / "model" / "model.joblib")
    manifest = (HERE / "inferenceservice.yaml").read_text()
    (BUILD / "inferenceservice.yaml").write_text(
        manifest.replace("file:///MODEL_DIR", (BUILD / "model").resolve().as_uri())
    )


if __name__ == "__main__":
    main()
