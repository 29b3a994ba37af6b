"""How a model comes into its pod."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.api.servingruntime import ClusterStorageContainer
from controller.inferenceservice.config import Settings, StorageInitializerSettings
from tests.controller.inferenceservice.builders import URI, conditions, knative_child, plan, service


def pod_of(predictor: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    meta = rest.pop("meta", None)
    found: dict[str, Any] = knative_child(plan(service(predictor, meta=meta), **rest))["spec"]["template"]["spec"]
    return found


def model(uri: str) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}}


def mounts(pod: dict[str, Any], name: str = "kserve-container") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(c for c in pod["containers"] if c["name"] == name).get("volumeMounts", [])
    return found


def test_an_init_container_fetches_the_model_into_a_shared_directory() -> None:
    pod = pod_of()
    (initializer,) = pod["initContainers"]
    assert initializer["name"] == "storage-initializer"
    assert initializer["args"] == [URI, "/mnt/models"]
    assert initializer["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert initializer["volumeMounts"] == [{"name": "kserve-provision-location", "mountPath": "/mnt/models"}]
    assert mounts(pod) == [{"name": "kserve-provision-location", "mountPath": "/mnt/models", "readOnly": True}]
    assert pod["volumes"] == [{"name": "kserve-provision-location", "emptyDir": {}}]


def test_the_initializer_is_configured() -> None:
    settings = Settings(storage_initializer=StorageInitializerSettings(image="example/init:2", memory_limit="4Gi"))
    (initializer,) = pod_of(settings=settings)["initContainers"]
    assert initializer["image"] == "example/init:2"
    assert initializer["resources"]["limits"] == {"cpu": "1", "memory": "4Gi"}


def test_the_initializer_is_told_that_a_model_is_encrypted_and_where_its_key_is() -> None:
    confidential = {"enabled": True, "resourceId": "kbs:///repo/type/tag"}
    (initializer,) = pod_of({"model": {**model(URI)["model"], "confidential": confidential}})["initContainers"]
    variables = {item["name"]: item["value"] for item in initializer["env"]}
    assert variables["CONFIDENTIAL_ENABLED"] == "true"
    assert variables["CONFIDENTIAL_RESOURCE_ID"] == "kbs:///repo/type/tag"
    (plain,) = pod_of({"model": {**model(URI)["model"], "confidential": {"enabled": False}}})["initContainers"]
    assert "CONFIDENTIAL_ENABLED" not in [item["name"] for item in plain["env"]]


def test_a_model_can_be_mounted_for_writing() -> None:
    pod = pod_of(meta={"annotations": {"storage.kserve.io/readonly": "false"}})
    assert mounts(pod) == [{"name": "kserve-provision-location", "mountPath": "/mnt/models"}]


def test_a_transformer_in_the_predictors_pod_sees_the_model() -> None:
    pod = pod_of({"containers": [{"name": "transformer-container", "image": "t"}]})
    assert mounts(pod, "transformer-container") == mounts(pod)


def test_a_mount_of_the_manifest_at_the_same_place_stays() -> None:
    own = {"name": "mine", "mountPath": "/mnt/models"}
    pod = pod_of({"model": {**model(URI)["model"], "volumeMounts": [own]}})
    assert mounts(pod) == [own]


def test_a_claim_is_mounted_and_nothing_is_fetched() -> None:
    pod = pod_of(model("pvc://claim/a/b"))
    assert "initContainers" not in pod
    assert pod["volumes"] == [{"name": "kserve-pvc-source", "persistentVolumeClaim": {"claimName": "claim"}}]
    assert mounts(pod) == [
        {"name": "kserve-pvc-source", "mountPath": "/mnt/models", "subPath": "a/b", "readOnly": True}
    ]


def test_a_whole_claim_has_no_sub_path() -> None:
    assert "subPath" not in mounts(pod_of(model("pvc://claim")))[0]


def test_several_sources_are_fetched_by_one_initializer() -> None:
    uris = [{"uri": "gs://a/x", "mountPath": "/mnt/models/x"}, {"uri": "gs://a/y", "mountPath": "/mnt/models/y"}]
    pod = pod_of({"model": {"modelFormat": {"name": "sklearn"}}, "storageUris": uris})
    (initializer,) = pod["initContainers"]
    assert initializer["args"] == ["gs://a/x", "/mnt/models/x", "gs://a/y", "/mnt/models/y"]
    assert [mount["mountPath"] for mount in mounts(pod)] == ["/mnt/models"]


def test_sources_elsewhere_get_a_volume_named_after_the_place() -> None:
    pod = pod_of(
        {"model": {"modelFormat": {"name": "sklearn"}}, "storageUris": [{"uri": "gs://a/x", "mountPath": "/data/in"}]}
    )
    assert [(mount["name"], mount["mountPath"]) for mount in mounts(pod)] == [("data-in", "/data/in")]


def test_a_custom_container_learns_where_its_model_lies() -> None:
    container = {"image": "c", "env": [{"name": "STORAGE_URI", "value": "gs://a/b"}]}
    pod = pod_of({"model": None, "containers": [container]})
    assert pod["initContainers"][0]["args"][0] == "gs://a/b"
    assert {"name": "STORAGE_URI", "value": "/mnt/models"} in pod["containers"][0]["env"]


def test_a_model_without_a_source_needs_no_initializer() -> None:
    pod = pod_of({"model": {"modelFormat": {"name": "sklearn"}}})
    assert {"initContainers", "volumes"}.isdisjoint(pod)


def storage_container(prefix: str = "custom://", **spec: Any) -> ClusterStorageContainer:
    container = {"name": "storage-initializer", "image": "example/custom:1", "env": [{"name": "A", "value": "1"}]}
    found = {"container": container, "supportedUriFormats": [{"prefix": prefix}], **spec}
    return ClusterStorageContainer.parse({"metadata": {"name": "c"}, "spec": found})


def test_a_storage_container_fetches_the_schemes_that_it_names() -> None:
    (initializer,) = pod_of(model("custom://x"), storage_containers=(storage_container(),))["initContainers"]
    assert (initializer["image"], initializer["args"]) == ("example/custom:1", ["custom://x", "/mnt/models"])
    assert {"name": "A", "value": "1"} in initializer["env"]


def test_a_storage_container_may_name_schemes_by_a_pattern() -> None:
    pattern = storage_container(supportedUriFormats=[{"regex": "https?://models\\."}])
    (initializer,) = pod_of(model("https://models.example.com/m"), storage_containers=(pattern,))["initContainers"]
    assert initializer["image"] == "example/custom:1"


def refusal(predictor: dict[str, Any], **rest: Any) -> tuple[str, str]:
    refused = plan(service(predictor), **rest)
    assert refused.keep_children
    assert refused.status is not None
    ready = next(item for item in refused.status["conditions"] if item["type"] == "PredictorReady")
    assert conditions(refused)["PredictorReady"][0] == "False"
    return ready["reason"], ready["message"]


@pytest.mark.parametrize("uri", ["ftp://a/b", "git://a/b", "oci://r/i:1"])
def test_a_scheme_that_nothing_fetches_is_named_with_those_that_work(uri: str) -> None:
    reason, message = refusal(model(uri))
    assert reason == "InvalidStorage"
    assert uri in message
    assert "s3://" in message


def test_a_storage_container_that_is_off_does_not_count() -> None:
    off = ClusterStorageContainer.parse({**storage_container().to_json(), "disabled": True})
    assert refusal(model("custom://x"), storage_containers=(off,))[0] == "InvalidStorage"
    jobs = storage_container(workloadType="localModelDownloadJob")
    assert refusal(model("custom://x"), storage_containers=(jobs,))[0] == "InvalidStorage"


def test_a_claim_without_a_name_is_refused() -> None:
    assert refusal(model("pvc:///path"))[0] == "InvalidStorage"


def test_where_knative_forbids_init_containers_the_condition_says_which_flag_to_set() -> None:
    settings = replace(Settings(), init_containers_allowed=False)
    reason, message = refusal(model(URI), settings=settings)
    assert reason == "InitContainersDisabled"
    assert "kubernetes.podspec-init-containers" in message


def test_a_claim_needs_no_init_container() -> None:
    assert not plan(
        service(model("pvc://c")), settings=replace(Settings(), init_containers_allowed=False)
    ).keep_children


@pytest.mark.parametrize(
    "uri", ["file:///a", "/a/b", "http://h/m.tar.gz", "https://x.blob.core.windows.net/c/p", "hf://o/m"]
)
def test_what_the_initializer_fetches_is_accepted(uri: str) -> None:
    assert pod_of(model(uri))["initContainers"][0]["args"][0] == uri
