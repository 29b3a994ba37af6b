"""The runtimes that Ladle ships under KServe's names: on a cluster KServe's images, on one machine what stands in for them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
import yaml

from controller.api.servingruntime import ServingRuntime
from controller.inferenceservice.explanation import explain_runtimes
from controller.inferenceservice.offline import render
from onebox.install import shipped_objects
from onebox.node.images import RUNTIMES, image_name
from tests.controller.inferenceservice.builders import SHARED, conditions, manifest, plan, service

KSERVE_NAMES = {
    "kserve-sklearnserver", "kserve-xgbserver", "kserve-lgbserver", "kserve-predictiveserver", "kserve-pmmlserver",
    "kserve-paddleserver", "kserve-autogluonserver", "kserve-mlserver", "kserve-tensorflow-serving", "kserve-torchserve",
    "kserve-tritonserver", "kserve-huggingfaceserver", "kserve-huggingfaceserver-multinode", "kserve-vllmserver",
    "kserve-openvino",
}  # fmt: skip
"""spec/kserve.md 3.3."""
ONLY_ON_REQUEST = {"kserve-openvino"}
"""Not installed by KServe unless somebody does, so it must be named."""
NOT_FOR_CLUSTERS = {"kserve-huggingfaceserver-multinode", "kserve-openvino"}
"""Several nodes for one model are a later part; OpenVINO's runtime is not part of KServe's installation."""
GOLDEN = SHARED / "golden/kserve/cluster.yaml"


def on_one_machine() -> dict[str, ServingRuntime]:
    parsed = (ServingRuntime.parse(item) for item in shipped_objects() if item["kind"] == "ClusterServingRuntime")
    return {item.metadata.name: item for item in parsed}


def on_a_cluster() -> dict[str, dict[str, Any]]:
    folders = (files("manifests").joinpath("runtimes"), files("manifests").joinpath("runtimes", "images"))
    found = [yaml.safe_load(f.read_text()) for folder in folders for f in folder.iterdir() if f.name.endswith(".yaml")]
    return {item["metadata"]["name"]: item for item in found}


def formats(runtime: ServingRuntime) -> list[tuple[Any, ...]]:
    return [(item.name, item.version, item.autoSelect, item.priority) for item in runtime.spec.supportedModelFormats]


def offered(format_name: str, *, runtime: str = "", **predictor: Any) -> dict[str, Any]:
    model = {"modelFormat": {"name": format_name}, "storageUri": "gs://bucket/model"}
    return manifest({"model": {**model, **({"runtime": runtime} if runtime else {})}, **predictor})


def test_every_name_of_kserve_is_known_on_one_machine() -> None:
    assert set(on_one_machine()) >= KSERVE_NAMES
    assert set(on_a_cluster()) >= KSERVE_NAMES - NOT_FOR_CLUSTERS


@pytest.mark.parametrize("name", sorted(KSERVE_NAMES - NOT_FOR_CLUSTERS))
def test_a_stand_in_is_selected_as_the_runtime_that_it_stands_for(name: str) -> None:
    mine, theirs = on_one_machine()[name], ServingRuntime.parse(on_a_cluster()[name])
    assert formats(mine) == formats(theirs)
    assert mine.spec.protocolVersions == theirs.spec.protocolVersions
    assert mine.spec.multiModel == theirs.spec.multiModel


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")
def test_what_a_cluster_gets_is_kserves_to_the_field() -> None:
    recorded = {
        item["metadata"]["name"]: item
        for item in yaml.load_all(GOLDEN.read_text(), Loader=yaml.CSafeLoader)
        for item in (item["items"] if item["kind"].endswith("List") else [item])
        if item["kind"] == "ClusterServingRuntime"
    }
    for name, item in on_a_cluster().items():
        if name in recorded:
            assert item["spec"] == recorded[name]["spec"], name


CASES = [
    (name, entry.name)
    for name, runtime in sorted(on_one_machine().items())
    for entry in {item.name: item for item in runtime.spec.supportedModelFormats}.values()
]


@pytest.mark.parametrize(("name", "format_name"), CASES)
def test_a_named_runtime_serves_the_format_here_or_says_what_is_missing(name: str, format_name: str) -> None:
    runtime = on_one_machine()[name]
    workers = {"workerSpec": {}} if runtime.spec.workerSpec is not None else {}
    named = service({"model": {"modelFormat": {"name": format_name}, "runtime": name}, **workers})
    decided = plan(named, runtimes=tuple(on_one_machine().values()))
    if runtime.missing_for(format_name):
        assert conditions(decided)["PredictorReady"] == ("False", "RuntimeUnavailable")
        assert decided.keep_children
        assert decided.status is not None
        failure = decided.status["modelStatus"]["lastFailureInfo"]
        assert failure["reason"] == "NoSupportingRuntime"
        assert name in failure["message"]
        assert "modelFormat" in failure["message"] or "workerSpec" in failure["message"]
        return
    knative = next(child for child in decided.children if child.resource.group == "serving.knative.dev")
    (container,) = knative.manifest["spec"]["template"]["spec"]["containers"]
    assert image_name(container["image"]) in RUNTIMES


@pytest.mark.parametrize("format_name", ["sklearn", "xgboost", "lightgbm"])
def test_the_server_follows_the_format_even_where_the_annotation_is_old(format_name: str) -> None:
    changed = offered(format_name, runtime="kserve-mlserver")
    changed["metadata"]["annotations"] = {"modelFormat": "sklearn"}
    (container,) = render([changed])[0]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"ladle/{format_name}server:latest"


def test_no_runtime_without_a_server_hides_one_with() -> None:
    own = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": "mine"},
        "spec": {
            "supportedModelFormats": [{"name": "tensorflow", "version": "2", "autoSelect": True}],
            "protocolVersions": ["v1"],
            "containers": [{"name": "kserve-container", "image": "example/mine:1"}],
        },
    }
    (explained,) = explain_runtimes([own, offered("tensorflow")])
    assert explained.to_json()["chosen"]["name"] == "mine"
    (behind,) = (
        item["against"] for item in explained.to_json()["considered"] if item["name"] == "kserve-tensorflow-serving"
    )
    assert "without a server on this machine" in behind
