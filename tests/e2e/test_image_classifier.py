"""examples/digits: a PNG in, a label out, by a small CNN in ONNX behind the image transformer, over REST and gRPC."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from tests.e2e.box import ROOT, Box
from tests.transformer.pictures import as_text, encoded
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, which trains the classifier, is not installed"),
]
triton_grpc = pytest.importorskip("tritonclient.grpc")
from tritonclient.utils import InferenceServerException  # noqa: E402  # Behind the check that it is installed.

DEADLINE_S = 90.0
COUNT = 20
"""Of the digits that the example does not train on."""
RIGHT_AT_LEAST = 18
SHORT_WINDOW = {"autoscaling.knative.dev/window": "6s"}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example's train.py writes."""
    build = tmp_path_factory.mktemp("digits")
    command = [sys.executable, str(ROOT / "examples/digits/train.py"), str(build)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    return build


@pytest.fixture(scope="module")
def manifest(example: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((example / "inferenceservice.yaml").read_text())
    loaded["metadata"]["namespace"] = "default"
    return loaded


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [encoded(np.round(image * 255 / 16)) for image in load_digits().images[:COUNT]]


def right(found: list[Any]) -> int:
    """How many labels are the digits that the pictures show."""
    return sum(int(label) == digit for label, digit in zip(found, load_digits().target[:COUNT], strict=True))


def body(pictures: list[bytes]) -> dict[str, Any]:
    return {"instances": [{"image": {"b64": as_text(picture)}} for picture in pictures]}


def test_the_example_answers_over_rest(
    box: Box, example: Path, manifest: dict[str, Any], pictures: list[bytes]
) -> None:
    box.client.apply(manifest)
    box.client.wait_ready("digits", timeout_s=DEADLINE_S)
    answer = box.client.predict("digits", json.loads((example / "input.json").read_text()))
    assert [row[0]["label"] for row in answer["predictions"]] == [0]
    rows = box.client.predict("digits", body(pictures))["predictions"]
    assert right([row[0]["label"] for row in rows]) >= RIGHT_AT_LEAST
    assert all(0 < row[0]["score"] <= 1 for row in rows)


def test_it_answers_over_v2(box: Box, pictures: list[bytes]) -> None:
    tensor = {"name": "images", "shape": [COUNT], "datatype": "BYTES", "data": [as_text(p) for p in pictures]}
    outputs = {item["name"]: item for item in box.client.predict("digits", {"inputs": [tensor]})["outputs"]}
    assert (outputs["labels"]["shape"], outputs["scores"]["shape"]) == ([COUNT, 1], [COUNT, 1])
    assert right(outputs["labels"]["data"]) >= RIGHT_AT_LEAST


def test_a_transformer_that_is_taken_away_leaves_nothing(box: Box, manifest: dict[str, Any]) -> None:
    """Its children of every kind and its processes go; the predictor then answers for itself."""
    kinds = {
        "serving.knative.dev/v1": ("services", "configurations", "revisions", "routes"),
        "apps/v1": ("deployments",),
        "networking.istio.io/v1": ("virtualservices",),
    }

    def named() -> list[str]:
        paths = [f"/apis/{group}/namespaces/default/{kind}" for group, listed in kinds.items() for kind in listed]
        paths += [f"/api/v1/namespaces/default/{kind}" for kind in ("services", "pods", "endpoints")]
        names = [f"{path}/{item['metadata']['name']}" for path in paths for item in listed_at(box, path)]
        return [name for name in names if "/digits-transformer" in name]

    def routed() -> str:
        path = "/apis/networking.istio.io/v1beta1/namespaces/default/virtualservices/digits"
        return json.dumps(box.client.request("GET", path)["spec"])

    assert len(named()) >= len(sum(kinds.values(), ()))
    assert "digits-transformer" in routed()
    processes = [process for (pod, _), process in box.containers().items() if pod.startswith("digits-transformer")]
    assert processes
    box.client.apply({**manifest, "spec": {"predictor": manifest["spec"]["predictor"]}})
    service = box.client.wait_ready("digits", timeout_s=DEADLINE_S)
    wait_for("none of its objects is left", lambda: not named(), timeout_s=DEADLINE_S)
    wait_for("no process of it is left", lambda: not any(item.alive() for item in processes), timeout_s=DEADLINE_S)
    assert "digits-transformer" not in routed()
    assert set(service["status"]["components"]) == {"predictor"}
    assert not [item for item in service["status"]["conditions"] if "Transformer" in item["type"]]
    pixels = (load_digits().images[:1] / 16).astype(np.float32).reshape(1, 1, 8, 8)
    tensor = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": pixels.flatten().tolist()}
    scores = box.client.predict("digits", {"inputs": [tensor]})["outputs"][0]["data"]
    assert int(np.argmax(scores)) == load_digits().target[0]
    box.client.delete("digits")


def listed_at(box: Box, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = box.client.request("GET", path)["items"]
    return items


def collocated(name: str, manifest: dict[str, Any], *, port: int, flag: str, protocol: str) -> dict[str, Any]:
    """One pod: the predictor on `port`, which only the transformer beside it asks."""
    given = manifest["spec"]["transformer"]["containers"][0]
    predictor = {
        "name": "kserve-container",
        "image": "ladle/onnxserver",
        "args": [f"--model_name={name}", "--model_dir=/mnt/models", f"--{flag}={port}"],
        "env": [
            {"name": "STORAGE_URI", "value": manifest["spec"]["predictor"]["model"]["storageUri"]},
            {"name": "LADLE_ACCESS_LOG", "value": "true"},
        ],
    }
    told = [f"--model_name={name}", f"--predictor_host=localhost:{port}", f"--predictor_protocol={protocol}"]
    transformer = {
        **given,
        "name": "transformer-container",
        "args": [*given["args"], *told],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
    }
    meta = {"name": name, "namespace": "default", "annotations": SHORT_WINDOW}
    spec = {"predictor": {"minReplicas": 0, "containers": [predictor, transformer]}}
    return {**manifest, "metadata": meta, "spec": spec}


def test_it_answers_beside_its_predictor_in_one_pod(box: Box, manifest: dict[str, Any], pictures: list[bytes]) -> None:
    box.client.apply(collocated("pair", manifest, port=8085, flag="http_port", protocol="v2"))
    box.client.wait_ready("pair", timeout_s=DEADLINE_S)
    rows = box.client.predict("pair", body(pictures))["predictions"]  # Ready means that the predictor has loaded, too.
    assert right([row[0]["label"] for row in rows]) >= RIGHT_AT_LEAST
    box.client.delete("pair")


H2C = {"containerPort": 8081, "name": "h2c", "protocol": "TCP"}
"""KServe's form for gRPC: the only port, by this name."""
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"


def over_grpc(name: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """The example with gRPC from the client to the transformer, and from there to the predictor; both go to zero."""
    changed = deepcopy(manifest)
    changed["metadata"] = {"name": name, "namespace": "default", "annotations": SHORT_WINDOW}
    predictor, transformer = changed["spec"]["predictor"], changed["spec"]["transformer"]
    predictor["model"] |= {"ports": [H2C], "env": [{"name": "LADLE_ACCESS_LOG", "value": "true"}]}
    [container] = transformer["containers"]
    container["args"] = [*container["args"], "--predictor_protocol=grpc-v2"]
    container["ports"] = [H2C]
    for component in (predictor, transformer):
        component["minReplicas"] = 0
    return changed


@contextmanager
def triton(box: Box, name: str) -> Iterator[Any]:
    """Triton's client at the gateway, for the host of this service."""
    address = urlsplit(box.client.get(name)["status"]["url"])
    options = [("grpc.default_authority", address.netloc), ("grpc.use_local_subchannel_pool", 1)]
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{address.port}", channel_args=options) as client:
        yield client


def infer(client: Any, name: str, pictures: list[bytes]) -> tuple[Any, Any]:
    """Labels and scores, `(rows, 1)`, that the service has for files of pictures."""
    tensor = triton_grpc.InferInput("images", [len(pictures)], "BYTES")
    tensor.set_data_from_numpy(np.array(pictures, dtype=object))
    answer = client.infer(name, [tensor], client_timeout=DEADLINE_S)
    return answer.as_numpy("labels"), answer.as_numpy("scores")


def calls_of(box: Box, pod_prefix: str, container: str) -> list[str]:
    """The paths in the access logs of a component's pods."""
    pods = [item["metadata"]["name"] for item in listed_at(box, "/api/v1/namespaces/default/pods")]
    texts = []
    for pod in (name for name in pods if name.startswith(pod_prefix)):
        path = f"/api/v1/namespaces/default/pods/{pod}/log?container={container}"
        texts += b"".join(box.client.stream(path)).decode().splitlines()
    return [json.loads(text)["path"] for text in texts if '"path"' in text]


def test_it_answers_over_grpc_all_the_way(box: Box, manifest: dict[str, Any], pictures: list[bytes]) -> None:
    box.client.apply(over_grpc("digits-grpc", manifest))
    box.client.wait_ready("digits-grpc", timeout_s=DEADLINE_S)
    with triton(box, "digits-grpc") as client:
        labels, scores = infer(client, "digits-grpc", pictures)
        assert (labels.shape, scores.shape) == ((COUNT, 1), (COUNT, 1))
        assert right(labels.flatten().tolist()) >= RIGHT_AT_LEAST
        assert client.is_model_ready("digits-grpc", client_timeout=DEADLINE_S)
        with pytest.raises(InferenceServerException, match=r"input 'images'\[0\]") as refused:
            infer(client, "digits-grpc", [b"no picture"])
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert MODEL_INFER in calls_of(box, "digits-grpc-predictor", "kserve-container")
    answer = box.client.predict("digits-grpc", body(pictures))  # REST on the transformer's one port, gRPC behind it.
    assert right([row[0]["label"] for row in answer["predictions"]]) >= RIGHT_AT_LEAST


def at_zero(box: Box, service: str) -> None:
    def pods() -> list[str]:
        names = [item["metadata"]["name"] for item in listed_at(box, "/api/v1/namespaces/default/pods")]
        return [name for name in names if name.startswith(f"{service}-")]

    wait_for(f"{service} has no pods", lambda: not pods(), timeout_s=DEADLINE_S)


def test_one_grpc_call_wakes_the_transformer_and_its_predictor(box: Box, pictures: list[bytes]) -> None:
    at_zero(box, "digits-grpc")
    with triton(box, "digits-grpc") as client:
        labels, _ = infer(client, "digits-grpc", pictures)
    assert right(labels.flatten().tolist()) >= RIGHT_AT_LEAST
    box.client.delete("digits-grpc")


def test_it_answers_over_grpc_beside_its_predictor(box: Box, manifest: dict[str, Any], pictures: list[bytes]) -> None:
    service = collocated("pair-grpc", manifest, port=9000, flag="grpc_port", protocol="grpc-v2")
    service["spec"]["predictor"]["containers"][1]["ports"] = [H2C]
    box.client.apply(service)
    box.client.wait_ready("pair-grpc", timeout_s=DEADLINE_S)
    with triton(box, "pair-grpc") as client:
        labels, _ = infer(client, "pair-grpc", pictures)
        assert right(labels.flatten().tolist()) >= RIGHT_AT_LEAST
        assert MODEL_INFER in calls_of(box, "pair-grpc-predictor", "kserve-container")
        at_zero(box, "pair-grpc")
        labels, _ = infer(client, "pair-grpc", pictures)  # Held until both have loaded.
        assert right(labels.flatten().tolist()) >= RIGHT_AT_LEAST
    box.client.delete("pair-grpc")
