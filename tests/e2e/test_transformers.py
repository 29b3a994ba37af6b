"""A picture in, a label out: a classifier of scikit-learn's digits behind the image transformer, on a onebox.

Here the classifier is a tree, trained in milliseconds; the one that is a CNN runs in test_image_classifier.py, with the soaks.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.tree import DecisionTreeClassifier
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.e2e.box import Box
from tests.runtimes.processes import KSERVE_PYTHON, needs_kserve
from tests.transformer.pictures import as_text, encoded

pytestmark = pytest.mark.e2e
DEADLINE_S = 60.0
KSERVE_SCRIPT = Path(__file__).parents[1] / "runtimes" / "kserve_scripts" / "transformer.py"
EXPLAINER = Path(__file__).parents[2] / "examples" / "explainer" / "occlusion.py"
H2C = {"containerPort": 8081, "name": "h2c", "protocol": "TCP"}
"""KServe's form for gRPC: the only port, by this name."""
ARGUMENTS = ["--width=8", "--height=8", "--mode=L", "--layout=flat", f"--scale={16 / 255}", "--top_k=1"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a classifier of 8 x 8 pixels, 0 to 16."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    folder.mkdir()
    features, labels = load_digits(return_X_y=True)
    joblib.dump(DecisionTreeClassifier(random_state=0).fit(features, labels), folder / "model.joblib")
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


def ask(box: Box, name: str, body: object, *, verb: str = "predict") -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{box.gateway}/v1/models/{name}:{verb}",
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


def test_pictures_in_labels_out_over_grpc_all_the_way(box: Box, digits: Path) -> None:
    """From Triton's client to the transformer, and from there to the predictor; REST on the same port beside it."""
    service = isvc("digits-grpc", digits, {"name": "kserve-container", "image": "ladle-image-transformer:latest"})
    [transformer] = service["spec"]["transformer"]["containers"]
    transformer |= {"args": [*ARGUMENTS, "--predictor_protocol=grpc-v2"], "ports": [H2C]}
    service["spec"]["predictor"]["model"] |= {"ports": [H2C]}
    box.client.apply(service)
    address = urlsplit(box.client.wait_ready("digits-grpc", timeout_s=DEADLINE_S)["status"]["url"])
    texts, labels = pictures(10)
    tensor = InferInput("images", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([base64.b64decode(text) for text in texts], dtype=object))
    options = [("grpc.default_authority", address.netloc), ("grpc.use_local_subchannel_pool", 1)]
    with InferenceServerClient(f"127.0.0.1:{address.port}", channel_args=options) as client:
        found = client.infer("digits-grpc", [tensor], client_timeout=DEADLINE_S).as_numpy("labels")
    assert found.shape == (len(texts), 1)
    assert sum(int(a) == b for [a], b in zip(found, labels, strict=True)) >= 9
    status, body = ask(box, "digits-grpc", {"instances": texts})
    assert status == 200, body
    assert [[str(row[0]["label"])] for row in body["predictions"]] == [[label.decode()] for [label] in found]
    box.client.delete("digits-grpc")


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


def test_an_explainer_of_ones_own_asks_the_predictor(box: Box, digits: Path) -> None:
    """`:explain` goes to it by the VirtualService's rule, `:predict` past it; the predictor's refusal comes through."""
    service = isvc("explained", digits, {})
    del service["spec"]["transformer"]
    explainer = {"name": "kserve-container", "image": "none", "command": ["python", str(EXPLAINER)]}
    service["spec"]["explainer"] = {"containers": [explainer]}
    box.client.apply(service)
    ready = box.client.wait_ready("explained", timeout_s=DEADLINE_S)
    conditions = {item["type"]: item["status"] for item in ready["status"]["conditions"]}
    assert conditions["ExplainerReady"] == "True"
    features, labels = load_digits(return_X_y=True)
    rows = features[:3].tolist()
    status, body = ask(box, "explained", {"instances": rows}, verb="explain")
    assert status == 200, body
    predictor = joblib.load(digits / "model.joblib")
    for row, label, found in zip(features[:3], labels[:3].tolist(), body["explanations"], strict=True):
        without = np.where(np.eye(64, dtype=bool), 0.0, row)
        of_class = predictor.predict_proba([row])[0, label] - predictor.predict_proba(without)[:, label]
        assert (found["class"], found["importance"]) == (label, pytest.approx(of_class.tolist(), abs=1e-6))
    status, body = ask(box, "explained", {"instances": rows})
    assert (status, np.asarray(body["predictions"]).shape) == (200, (3, 10))
    status, body = ask(box, "explained", {"instances": [[1.0]]}, verb="explain")
    assert (status, "expected [rows, 64]" in body["error"]) == (400, True)
    box.client.delete("explained")


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

    status, body = ask(box, "beside", {"instances": texts})
    assert status == 200, body  # The first one: the transformer is ready when its predictor is.
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
