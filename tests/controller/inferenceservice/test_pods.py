"""What runs in a component's pod: the runtime's container with the manifest's over it, and what KServe adds."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.servingruntime import ServingRuntime
from tests.controller.inferenceservice.builders import conditions, knative_child, plan, runtime, service

TRANSFORMER = {"containers": [{"name": "kserve-container", "image": "example/t:1"}]}


def containers(
    predictor: dict[str, Any] | None = None, *, rt: ServingRuntime | None = None, **rest: Any
) -> dict[str, Any]:
    """The containers of the predictor's pod by name."""
    child = knative_child(plan(service(predictor, **rest), runtimes=(rt or runtime(),)))
    return {item["name"]: item for item in child["spec"]["template"]["spec"]["containers"]}


def model(**fields: Any) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "sklearn"}, **fields}}


def main(*args: Any, **kwargs: Any) -> dict[str, Any]:
    found: dict[str, Any] = containers(*args, **kwargs)["kserve-container"]
    return found


def env(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


def test_arguments_of_the_manifest_follow_those_of_the_runtime() -> None:
    assert main(model(args=["--workers=2"]))["args"] == ["--model_name=iris", "--workers=2"]


def test_fields_of_the_manifest_replace_those_of_the_runtime() -> None:
    base = runtime(
        containers=[{"name": "kserve-container", "image": "a:1", "env": [{"name": "A", "value": "1"}, {"name": "B"}]}]
    )
    own = model(image="b:2", env=[{"name": "A", "value": "2"}], resources={"limits": {"cpu": 3}})
    merged = main(own, rt=base)
    assert merged["image"] == "b:2"
    assert env(merged)["A"] == "2"
    assert "B" in env(merged)
    assert merged["resources"]["limits"]["cpu"] == "3"


def test_a_variable_from_a_secret_replaces_a_value() -> None:
    base = runtime(containers=[{"name": "kserve-container", "image": "a", "env": [{"name": "A", "value": "1"}]}])
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    merged = main(model(env=[{"name": "A", "valueFrom": source}]), rt=base)
    assert next(variable for variable in merged["env"] if variable["name"] == "A") == {"name": "A", "valueFrom": source}


def test_every_container_learns_the_services_name() -> None:
    found = containers({"containers": [{"name": "transformer-container", "image": "t"}]})
    assert {name: env(item)["INFERENCE_SERVICE_NAME"] for name, item in found.items()} == {
        "kserve-container": "iris",
        "transformer-container": "iris",
    }


def test_containers_come_in_order_model_transformer_runtime_manifest() -> None:
    side = {"name": "side", "image": "s"}
    base = runtime(containers=[side, {"name": "kserve-container", "image": "a"}])
    assert list(containers({"containers": [{"name": "transformer-container", "image": "t"}]}, rt=base)) == [
        "kserve-container",
        "transformer-container",
        "side",
    ]


def test_placeholders_are_filled_in_from_the_service() -> None:
    args = ["--name={{.Name}}", "--ns={{ .Namespace }}", "--team={{.Labels.team}}", "--f={{.Annotations.modelFormat}}"]
    base = runtime(containers=[{"name": "kserve-container", "image": "a", "args": [*args, "--none={{.Labels.none}}"]}])
    assert main(rt=base, meta={"labels": {"team": "red"}})["args"] == [
        "--name=iris",
        "--ns=ns",
        "--team=red",
        "--f=sklearn",
        "--none=",
    ]


def test_a_placeholder_that_nothing_fills_is_named() -> None:
    base = runtime(containers=[{"name": "kserve-container", "image": "a", "args": ["{{.Spec.Predictor}}"]}])
    refused = plan(service(), runtimes=(base,))
    assert conditions(refused)["PredictorReady"] == ("False", "InvalidPredictorSpec")
    assert refused.status is not None
    assert "{{.Spec.Predictor}}" in refused.status["modelStatus"]["lastFailureInfo"]["message"]


def test_a_runtime_without_the_container_is_named() -> None:
    broken = runtime(containers=[{"name": "other", "image": "a"}])
    assert conditions(plan(service(), runtimes=(broken,)))["PredictorReady"] == ("False", "InvalidPredictorSpec")


@pytest.mark.parametrize(
    ("server", "fields", "image", "expected"),
    [
        ("", {"runtimeVersion": "9"}, "host:5000/a/b:1", "host:5000/a/b:9"),
        ("", {"runtimeVersion": "9"}, "host:5000/a/b", "host:5000/a/b:9"),
        ("", {"runtimeVersion": "9"}, "a/b@sha256:00", "a/b@sha256:00"),
        ("torchserve", {"resources": {"limits": {"nvidia.com/gpu": "1"}}}, "a/b:1", "a/b:1-gpu"),
        ("", {"resources": {"limits": {"nvidia.com/gpu": "1"}}}, "a/b:1", "a/b:1"),
        ("vllmserver", {}, "a/b:1", "a/b-cpu:1"),
        ("vllmserver", {"resources": {"limits": {"nvidia.com/gpu": "1"}}}, "a/b:1", "a/b:1"),
    ],
)
def test_the_image_follows_version_and_hardware(server: str, fields: dict[str, Any], image: str, expected: str) -> None:
    annotations = {"serving.kserve.io/server-type": server}
    base = runtime(annotations=annotations, containers=[{"name": "kserve-container", "image": image}])
    assert main(model(**fields), rt=base)["image"] == expected


def test_devices_that_are_limited_are_requested_too() -> None:
    resources = main(model(resources={"limits": {"nvidia.com/gpu": 1, "cpu": 2}}))["resources"]
    assert resources == {"limits": {"nvidia.com/gpu": "1", "cpu": "2"}, "requests": {"nvidia.com/gpu": "1"}}


def test_mlserver_learns_its_model_by_variables_and_labels() -> None:
    annotations = {"serving.kserve.io/server-type": "mlserver"}
    image = {"name": "kserve-container", "image": "m", "env": [{"name": "CLASS", "value": "{{.Labels.modelClass}}"}]}
    base = runtime(annotations=annotations, protocols=["v2"], containers=[image])
    made = plan(service(model(storageUri="gs://a/b")), runtimes=(base,))
    child = knative_child(made)
    found = env(child["spec"]["template"]["spec"]["containers"][0])
    assert found["MLSERVER_MODEL_NAME"] == "iris"
    assert found["MLSERVER_MODEL_URI"] == "/mnt/models"
    assert found["CLASS"] == child["metadata"]["labels"]["modelClass"] == "mlserver_sklearn.SKLearnModel"


def test_mlserver_without_a_model_starts_empty() -> None:
    annotations = {"serving.kserve.io/server-type": "mlserver"}
    found = env(main(model(), rt=runtime(annotations=annotations)))
    assert found["MLSERVER_LOAD_MODELS_AT_STARTUP"] == "false"
    assert "MLSERVER_MODEL_URI" not in found


def test_triton_without_a_model_waits_to_be_told() -> None:
    annotations = {"serving.kserve.io/server-type": "tritonserver"}
    assert main(model(), rt=runtime(annotations=annotations))["args"][-1] == "--model-control-mode=explicit"
    assert (
        "--model-control-mode=explicit"
        not in main(model(storageUri="gs://a/b"), rt=runtime(annotations=annotations))["args"]
    )


def test_the_runtimes_pod_fields_lie_under_those_of_the_manifest() -> None:
    base = runtime(
        nodeSelector={"a": "1", "b": "1"}, tolerations=[{"key": "x"}], volumes=[{"name": "v", "emptyDir": {}}]
    )
    child = knative_child(plan(service({"nodeSelector": {"b": "2"}}), runtimes=(base,)))
    pod = child["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"a": "1", "b": "2"}
    assert pod["tolerations"] == [{"key": "x"}]
    assert "v" in [volume["name"] for volume in pod["volumes"]]


def test_fields_that_a_revision_cannot_have_are_left_out() -> None:
    child = knative_child(plan(service({"restartPolicy": "Never", "serviceAccount": "a", "serviceAccountName": "b"})))
    assert {"restartPolicy", "serviceAccount"}.isdisjoint(child["spec"]["template"]["spec"])
    assert child["spec"]["template"]["spec"]["serviceAccountName"] == "b"


def custom(name: str, **spec: Any) -> dict[str, Any]:
    child = knative_child(plan(service(**spec)), f"iris-{name}")
    found: dict[str, Any] = child["spec"]["template"]["spec"]["containers"][0]
    return found


def test_a_transformer_is_told_its_model_its_predictor_and_its_port() -> None:
    args = custom("transformer", transformer=TRANSFORMER)["args"]
    assert args == ["--model_name", "iris", "--predictor_host", "iris-predictor.ns", "--http_port", "8080"]


def test_flags_that_a_transformer_has_are_not_added() -> None:
    given = {"name": "kserve-container", "image": "t", "args": ["--model_name=other", "--http_port", "9"]}
    args = custom("transformer", transformer={"containers": [given], "containerConcurrency": 3})["args"]
    assert args == ["--model_name=other", "--http_port", "9", "--predictor_host", "iris-predictor.ns", "--workers", "3"]


def test_an_explainer_does_not_get_the_services_name() -> None:
    explainer = {"containers": [{"name": "explainer", "image": "e"}]}
    assert "env" not in custom("explainer", explainer=explainer)


def test_an_art_explainer_is_started_from_its_config() -> None:
    art = {"type": "SquareAttack", "config": {"nb_classes": "10", "a": "1"}, "storageUri": "gs://a/b"}
    found = custom("explainer", explainer={"art": art})
    assert found["image"] == "kserve/art-explainer:latest"
    assert found["args"] == [
        *("--model_name", "iris", "--http_port", "8080", "--predictor_host", "iris-predictor.ns"),
        *("--storage_uri", "/mnt/models", "--adversary_type", "SquareAttack", "--a", "1", "--nb_classes", "10"),
    ]


def test_a_custom_predictor_is_the_manifests_own_container() -> None:
    child = knative_child(plan(service({"model": None, "containers": [{"name": "mine", "image": "example/mine:1"}]})))
    found = child["spec"]["template"]["spec"]["containers"]
    assert [(item["name"], item["image"], item.get("args")) for item in found] == [
        ("kserve-container", "example/mine:1", None)
    ]


def test_the_model_container_comes_first_in_a_custom_pod() -> None:
    both = [{"name": "transformer-container", "image": "t"}, {"name": "kserve-container", "image": "k"}]
    child = knative_child(plan(service({"model": None, "containers": both})))
    assert [item["name"] for item in child["spec"]["template"]["spec"]["containers"]] == [
        "kserve-container",
        "transformer-container",
    ]
