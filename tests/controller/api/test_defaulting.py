"""What an InferenceService says without saying it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.api.defaulting import SHIPPED, default_inference_service
from controller.api.inferenceservice import LEGACY_FORMATS


def defaulted(predictor: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": "iris", **({"annotations": annotations} if annotations else {})}
    return default_inference_service({"metadata": meta, "spec": {"predictor": predictor, **spec}})


@pytest.mark.parametrize("name", LEGACY_FORMATS)
def test_a_legacy_key_becomes_a_model(name: str) -> None:
    stored = defaulted({name: {"storageUri": "gs://a/b", "args": ["x"]}})
    model = stored["spec"]["predictor"]["model"]
    assert (model["modelFormat"], model["storageUri"], model["args"]) == ({"name": name}, "gs://a/b", ["x"])
    assert name not in stored["spec"]["predictor"]
    assert stored["metadata"]["annotations"] == {"modelFormat": name}
    assert model.get("protocolVersion") == ("v2" if name in ("triton", "onnx", "huggingface") else None)


def test_a_legacy_key_beside_a_model_vanishes() -> None:
    stored = defaulted({"model": {"modelFormat": {"name": "a"}}, "sklearn": {}})
    assert "sklearn" not in stored["spec"]["predictor"]


def test_two_legacy_keys_stay_to_be_refused() -> None:
    assert set(defaulted({"sklearn": {}, "xgboost": {}})["spec"]["predictor"]) == {"sklearn", "xgboost"}


@pytest.mark.parametrize(("name", "protocol"), [("triton", "v2"), ("vLLM", "v2"), ("onnx", None)])
def test_some_formats_mean_v2(name: str, protocol: str | None) -> None:
    assert (
        defaulted({"model": {"modelFormat": {"name": name}}})["spec"]["predictor"]["model"].get("protocolVersion")
        == protocol
    )


def test_a_protocol_that_is_said_stays() -> None:
    model = {"modelFormat": {"name": "triton"}, "protocolVersion": "grpc-v2"}
    assert defaulted({"model": model})["spec"]["predictor"]["model"]["protocolVersion"] == "grpc-v2"


@pytest.mark.parametrize(
    ("old", "new"), [("Serverless", "Knative"), ("RawDeployment", "Standard"), ("Standard", "Standard")]
)
def test_old_names_of_modes_become_the_new_ones(old: str, new: str) -> None:
    stored = defaulted({"model": {}}, {"serving.kserve.io/deploymentMode": old})
    assert stored["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == new


def test_a_default_mode_other_than_knative_is_written_down() -> None:
    manifest = {"metadata": {"name": "a"}, "spec": {"predictor": {"model": {}}}}
    stored = default_inference_service(manifest, replace(SHIPPED, deployment_mode="Standard"))
    assert stored["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_modelmesh_keeps_its_legacy_keys() -> None:
    stored = defaulted({"sklearn": {}}, {"serving.kserve.io/deploymentMode": "ModelMesh"})
    assert "sklearn" in stored["spec"]["predictor"]


def container(stored: dict[str, Any], component: str = "predictor") -> dict[str, Any]:
    found: dict[str, Any] = stored["spec"][component]["containers"][0]
    return found


def test_the_one_container_of_a_component_gets_name_and_resources() -> None:
    stored = defaulted({"model": {}}, transformer={"containers": [{"name": "mine", "image": "i"}]})
    amounts = {"cpu": "1", "memory": "2Gi"}
    assert container(stored, "transformer") == {
        "name": "kserve-container",
        "image": "i",
        "resources": {"requests": amounts, "limits": amounts},
    }


def test_of_several_containers_the_one_with_the_name_is_the_main_one() -> None:
    stored = defaulted({"containers": [{"name": "side"}, {"name": "kserve-container"}]})
    assert [item["name"] for item in stored["spec"]["predictor"]["containers"]] == ["side", "kserve-container"]
    assert [bool(item["resources"]) for item in stored["spec"]["predictor"]["containers"]] == [False, True]


def test_default_amounts_never_contradict_given_ones() -> None:
    """KServe's do: it would request 1 CPU of a container that is limited to half of one."""
    small = container(defaulted({"containers": [{"resources": {"limits": {"cpu": "500m"}}}]}))["resources"]
    assert (small["requests"]["cpu"], small["limits"]["cpu"]) == ("500m", "500m")
    big = container(defaulted({"containers": [{"resources": {"requests": {"memory": "8Gi"}}}]}))["resources"]
    assert (big["requests"]["memory"], big["limits"]["memory"]) == ("8Gi", "8Gi")


def test_an_amount_that_is_none_is_left_for_validation() -> None:
    odd = container(defaulted({"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}))["resources"]
    assert odd["limits"]["cpu"] == "lots"


def test_an_art_explainer_gets_a_name_a_version_and_resources() -> None:
    art = defaulted({"model": {}}, explainer={"art": {"type": "SquareAttack"}})["spec"]["explainer"]["art"]
    assert (art["name"], art["runtimeVersion"], art["resources"]["limits"]["cpu"]) == (
        "kserve-container",
        "latest",
        "1",
    )


def test_sources_get_a_mount_path_and_probes_a_port() -> None:
    stored = defaulted({"model": {"livenessProbe": {"httpGet": {"path": "/x"}}}, "storageUris": [{"uri": "gs://a"}]})
    predictor = stored["spec"]["predictor"]
    assert predictor["storageUris"] == [{"uri": "gs://a", "mountPath": "/mnt/models"}]
    assert predictor["model"]["livenessProbe"] == {"httpGet": {"port": 0, "path": "/x"}}


def test_tokens_can_be_kept_out_of_pods() -> None:
    manifest = {
        "metadata": {"name": "a"},
        "spec": {"predictor": {"model": {}}, "transformer": {"automountServiceAccountToken": True}},
    }
    stored = default_inference_service(manifest, replace(SHIPPED, automount_token=False))
    assert stored["spec"]["predictor"]["automountServiceAccountToken"] is False
    assert stored["spec"]["transformer"]["automountServiceAccountToken"] is True


@pytest.mark.parametrize(
    "predictor",
    [
        {"sklearn": {"storageUri": "a"}},
        {"containers": [{"image": "x"}]},
        {"model": {"modelFormat": {"name": "onnx"}}},
        {},
    ],
)
def test_defaults_are_stable_and_leave_the_offered_object_alone(predictor: dict[str, Any]) -> None:
    offered = {"metadata": {"name": "a"}, "spec": {"predictor": predictor}}
    before = repr(offered)
    once = default_inference_service(offered)
    assert default_inference_service(once) == once
    assert repr(offered) == before
