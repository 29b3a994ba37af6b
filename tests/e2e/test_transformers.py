"""A picture in, a label out: a classifier of scikit-learn's digits behind the image transformer, on a onebox."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.e2e.box import Box
from tests.runtimes.processes import KSERVE_PYTHON, needs_kserve
from tests.transformer.pictures import as_text, encoded
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e
DEADLINE_S = 60.0
KSERVE_SCRIPT = Path(__file__).parents[1] / "runtimes" / "kserve_scripts" / "transformer.py"
ARGUMENTS = ["--width=8", "--height=8", "--mode=L", "--layout=flat", f"--scale={16 / 255}", "--top_k=1"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a classifier of 8 x 8 pixels, 0 to 16."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    folder.mkdir()
    features, labels = load_digits(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=200).fit(features, labels), folder / "model.joblib")
    return folder


def pictures(count: int) -> tuple[list[str], list[int]]:
    """PNGs of digits in base64, and which they are."""
    images, labels = load_digits().images[:count], load_digits().target[:count]
    return [as_text(encoded(np.round(image * 255 / 16))) for image in images], labels.tolist()


def isvc(name: str, digits: Path, transformer: dict[str, Any]) -> dict[str, Any]:
    model = {
        "modelFormat": {"name": "sklearn"},
        "storageUri": digits.as_uri(),
        "env": [{"name": "PREDICT_PROBA", "value": "true"}],
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"predictor": {"model": model}, "transformer": {"containers": [transformer]}},
    }


def ask(box: Box, name: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{box.gateway}/v1/models/{name}:predict",
        data=json.dumps(body).encode(),
        headers={"Host": f"{name}.default.localhost", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def served(box: Box, digits: Path) -> Box:
    transformer = {"name": "kserve-container", "image": "ladle-image-transformer:latest", "args": ARGUMENTS}
    box.client.apply(isvc("digits", digits, transformer))
    box.client.wait_ready("digits", timeout_s=DEADLINE_S)
    return box


def test_pictures_in_labels_out(served: Box) -> None:
    texts, labels = pictures(10)
    status, body = ask(served, "digits", {"instances": [{"image": {"b64": text}} for text in texts]})
    assert status == 200, body
    found = [row[0]["label"] for row in body["predictions"]]
    assert sum(a == b for a, b in zip(found, labels, strict=True)) >= 9


def test_what_is_no_picture_is_refused_by_the_transformer(served: Box) -> None:
    status, body = ask(served, "digits", {"instances": ["!!"]})
    assert (status, body["error"].startswith("instances[0]")) == (400, True)


OWN = '''
from ladle import Transformer, serve


class Halves(Transformer):
    """Digits from 0 to 32 instead of 16."""

    def preprocess(self, request):
        return request.as_array() / 2

    def postprocess(self, prediction, request):
        request.response_headers["x-host"] = self.settings.host
        return {"predictions": prediction.as_array().argmax(axis=1).tolist()}


serve(Halves())
'''


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_transformer_of_ones_own_is_a_command(box: Box, digits: Path, tmp_path: Path, protocol: str) -> None:
    program = tmp_path / "halves.py"
    program.write_text(OWN)
    name = f"halves-{protocol}"
    command = ["python", str(program), f"--predictor_protocol={protocol}"]
    box.client.apply(isvc(name, digits, {"name": "kserve-container", "image": "none", "command": command}))
    box.client.wait_ready(name, timeout_s=DEADLINE_S)
    features, labels = load_digits(return_X_y=True)
    status, body = ask(box, name, {"instances": (features[:10] * 2).tolist()})
    assert status == 200, body
    assert sum(a == b for a, b in zip(body["predictions"], labels[:10].tolist(), strict=True)) >= 9
    status, body = ask(box, name, {"instances": [[1.0]]})
    assert (status, "expected [rows, 64]" in body["error"]) == (400, True)  # The predictor's own words.
    box.client.delete(name)


def test_a_transformer_beside_its_predictor_in_the_pod(box: Box, digits: Path) -> None:
    """KServe's collocated form: one pod, the predictor at localhost."""
    storage = {"name": "STORAGE_URI", "value": digits.as_uri()}
    predictor = {
        "name": "kserve-container",
        "image": "kserve/sklearnserver",
        "args": ["--model_name=beside", "--model_dir=/mnt/models", "--http_port=8085"],
        "env": [storage, {"name": "PREDICT_PROBA", "value": "true"}],
    }
    transformer = {
        "name": "transformer-container",
        "image": "ladle-image-transformer",
        "args": [*ARGUMENTS, "--model_name=beside", "--predictor_host=localhost:8085"],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
    }
    service = isvc("beside", digits, transformer)
    service["spec"] = {"predictor": {"containers": [predictor, transformer]}}
    box.client.apply(service)
    box.client.wait_ready("beside", timeout_s=DEADLINE_S)
    texts, labels = pictures(3)

    def answer() -> Any:
        status, body = ask(box, "beside", {"instances": texts})
        return body if status == 200 else None  # The transformer is ready before its predictor has loaded.

    body = wait_for("an answer", answer, timeout_s=DEADLINE_S)
    assert [row[0]["label"] for row in body["predictions"]] == labels
    box.client.delete("beside")


@needs_kserve
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_an_unchanged_transformer_of_kserve_finds_its_predictor_by_name(box: Box, iris: Path, protocol: str) -> None:
    """kserve's own server and client, without any of Ladle: HTTP_PROXY leads it, and its port is mapped."""
    name = f"scaler-{protocol}"
    command = [KSERVE_PYTHON, str(KSERVE_SCRIPT), f"--predictor_protocol={protocol}"]
    service = isvc(name, iris, {"name": "kserve-container", "image": "none", "command": command})
    box.client.apply(service)
    box.client.wait_ready(name, timeout_s=2 * DEADLINE_S)  # It imports kserve, which takes seconds.
    status, body = ask(box, name, {"instances": [[68.0, 28.0, 48.0, 14.0], [60.0, 34.0, 45.0, 16.0]]})
    assert (status, body) == (200, {"predictions": ["kind 1", "kind 1"]})
    box.client.delete(name)
