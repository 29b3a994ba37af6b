"""What admission refuses, with the field, and what it lets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.api.admission import AdmissionRequest, Operation
from controller.api.validation import admit_inference_service
from controller.base.errors import Invalid

GOLDEN = Path(__file__).parents[3] / "../shared/golden/kserve/admission.yaml"
MODEL = {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://a/b"}
STANDARD = {"serving.kserve.io/deploymentMode": "Standard"}
KEDA = {**STANDARD, "serving.kserve.io/autoscalerClass": "keda"}
SIDE = {"name": "kserve-container", "image": "i"}


def isvc(
    predictor: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    *,
    name: str = "iris",
    **spec: Any,
) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": "ns", "annotations": annotations or {}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": meta,
        "spec": {"predictor": {"model": MODEL, **(predictor or {})}, **spec},
    }


def request(offered: dict[str, Any], old: dict[str, Any] | None = None, **rest: Any) -> AdmissionRequest:
    given = {"operation": Operation.UPDATE if old else Operation.CREATE, "subresource": "", **rest}
    return AdmissionRequest(
        group="serving.kserve.io", kind=offered["kind"], namespace="ns", name="iris", object=offered, old=old, **given
    )


def refused(offered: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, str]:
    """The fields that are wrong, with their messages."""
    try:
        admit_inference_service(request(offered, old))
    except Invalid as error:
        return {item.field: item.message for item in error.errors}
    return {}


def predictor(**fields: Any) -> dict[str, str]:
    return refused(isvc(fields))


def model(**fields: Any) -> dict[str, str]:
    return {
        name.removeprefix("spec.predictor.model."): text for name, text in predictor(model={**MODEL, **fields}).items()
    }


@pytest.mark.parametrize("name", ["1iris", "Iris", "iris-", "a.b", "-a"])
def test_names_start_with_a_letter_and_have_no_dots(name: str) -> None:
    assert "metadata.name" in refused(isvc(name=name))


def test_names_leave_room_for_the_components_suffix() -> None:
    assert not refused(isvc(name="a" * 53))
    assert "at most 53 characters" in refused(isvc(name="a" * 54))["metadata.name"]
    assert "at most 51" in refused(isvc(name="a" * 53, transformer={"containers": [SIDE]}))["metadata.name"]
    assert "metadata.name" in refused(isvc({"name": "b" * 30}, name="a" * 30))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("serving.kserve.io/deploymentMode", "Cloud"),
        ("serving.kserve.io/autoscalerClass", "kpa"),
        ("serving.kserve.io/targetUtilizationPercentage", "0"),
        ("serving.kserve.io/targetUtilizationPercentage", "101"),
        ("serving.kserve.io/targetUtilizationPercentage", "half"),
    ],
)
def test_annotations_with_words_that_nobody_knows_are_refused(annotation: str, value: str) -> None:
    assert f"metadata.annotations[{annotation}]" in refused(isvc(annotations={annotation: value}))


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"canaryTrafficPercent": 101}, "canaryTrafficPercent"),
        ({"canaryTrafficPercent": -1}, "canaryTrafficPercent"),
        ({"timeout": -5}, "timeout"),
        ({"minReplicas": -1}, "minReplicas"),
        ({"maxReplicas": -1}, "maxReplicas"),
        ({"minReplicas": 3, "maxReplicas": 1}, "minReplicas"),
        ({"containerConcurrency": -1}, "containerConcurrency"),
        ({"scaleTarget": 0}, "scaleTarget"),
        ({"scaleMetric": "cpu"}, "scaleMetric"),
        ({"deploymentStrategy": {"type": "Recreate"}}, "deploymentStrategy"),
        ({"batcher": {"maxBatchSize": -8}}, "batcher.maxBatchSize"),
        ({"logger": {}}, "logger.mode"),
        ({"logger": {"mode": "all", "storage": {"path": "p", "key": "k"}}}, "logger.storage.parameters"),
        ({"name": "Blue"}, "name"),
        ({"sklearn": {}, "xgboost": {}, "model": None}, ""),
        ({"model": None}, "model"),
        ({"containers": [SIDE]}, "containers"),
    ],
)
def test_fields_out_of_range_are_named(fields: dict[str, Any], wrong: str) -> None:
    assert f"spec.predictor.{wrong}".rstrip(".") in predictor(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"minReplicas": 3, "maxReplicas": 0},
        {"minReplicas": 0},
        {"canaryTrafficPercent": 0},
        {"canaryTrafficPercent": 100},
        {"scaleMetric": "rps", "scaleTarget": 1},
        {"timeout": 0},
        {"batcher": {}},
        {"logger": {"mode": "request"}},
        {"containers": [{"name": "transformer-container", "image": "t"}]},
        {"model": None, "containers": [SIDE]},
    ],
)
def test_fields_in_range_are_accepted(fields: dict[str, Any]) -> None:
    assert not predictor(**fields)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"modelFormat": {}}, "modelFormat.name"),
        ({"name": "mine"}, "name"),
        ({"protocolVersion": "v7"}, "protocolVersion"),
        ({"storageUri": " "}, "storageUri"),
        ({"storage": {"path": "p"}}, "storage.path"),
        ({"env": [{"value": "x"}]}, "env[0].name"),
        ({"env": [{"name": "A"}, {"name": "PYTHONPATH", "value": "/x"}]}, "env[1]"),
        ({"resources": {"limits": {"cpu": "lots"}}}, "resources.limits[cpu]"),
        ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}}, "resources.requests[cpu]"),
        ({"resources": {"requests": {"memory": "-1"}}}, "resources.requests[memory]"),
    ],
)
def test_what_is_wrong_with_a_model_is_named(fields: dict[str, Any], wrong: str) -> None:
    assert list(model(**fields)) == [wrong]


def test_a_request_up_to_the_limit_is_accepted() -> None:
    assert not model(resources={"requests": {"cpu": "1500m"}, "limits": {"cpu": "1.5"}})


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(predictor(timeout=-1, minReplicas=-1, model={**MODEL, "protocolVersion": "v7"})) == 3


def test_a_custom_predictor_speaks_v1_or_v2() -> None:
    container = {**SIDE, "env": [{"name": "PROTOCOL", "value": "v9"}]}
    assert (
        'supported values: "v1", "v2"'
        in predictor(model=None, containers=[container])["spec.predictor.containers[0].env[0].value"]
    )


def test_containers_have_names_of_their_own() -> None:
    found = refused(isvc(transformer={"containers": [SIDE, {"name": "a"}, {"name": "a"}]}))
    assert list(found) == ["spec.transformer.containers[2].name"]


def test_a_transformer_beside_the_model_has_no_model_of_its_own() -> None:
    side = {"name": "transformer-container", "env": [{"name": "STORAGE_URI", "value": "gs://a"}]}
    assert "spec.predictor.containers[0].env" in predictor(containers=[side])


def test_a_transformer_needs_a_container_and_an_explainer_one_of_two() -> None:
    assert "spec.transformer.containers" in refused(isvc(transformer={"minReplicas": 1}))
    assert "spec.explainer.containers" in refused(isvc(explainer={"art": {"type": "a"}, "containers": [SIDE]}))
    assert not refused(isvc(explainer={"art": {"type": "SquareAttack"}}))


@pytest.mark.parametrize(
    ("uris", "wrong"),
    [
        ([{"uri": ""}], "[0].uri"),
        ([{"uri": "a", "mountPath": "/"}], "[0].mountPath"),
        ([{"uri": "a", "mountPath": "x"}], "[0].mountPath"),
        ([{"uri": "a", "mountPath": "/a/../b"}], "[0].mountPath"),
        ([{"uri": "a", "mountPath": "/a"}, {"uri": "b", "mountPath": "/b"}], ""),
        ([{"uri": "pvc://a", "mountPath": "/a"}, {"uri": "pvc://b", "mountPath": "/a"}], ""),
    ],
)
def test_mount_paths_of_several_sources_must_fit_together(uris: list[dict[str, str]], wrong: str) -> None:
    assert list(predictor(model={"modelFormat": {"name": "a"}}, storageUris=uris)) == [
        f"spec.predictor.storageUris{wrong}"
    ]


def test_one_source_or_several_but_not_both() -> None:
    assert "spec.predictor.storageUris" in predictor(storageUris=[{"uri": "gs://a"}])
    custom = {**SIDE, "env": [{"name": "STORAGE_URI", "value": "gs://a"}]}
    assert "spec.predictor.storageUris" in predictor(model=None, containers=[custom], storageUris=[{"uri": "gs://a"}])


def test_an_encrypted_model_is_fetched_and_names_its_key_in_full() -> None:
    enabled = {"enabled": True}
    assert not model(confidential=enabled)
    assert not model(confidential={**enabled, "resourceId": "kbs:///repo/type/tag-1.0"})
    assert "storageUri" in predictor(model={"modelFormat": {"name": "a"}, "confidential": enabled}).popitem()[0]
    for wrong in ("kbs://host/a/b/c", "kbs:///a/b", "kbs:///a/b/c/d", "kbs:///a/b/c?x=1"):
        assert list(model(confidential={**enabled, "resourceId": wrong})) == ["confidential.resourceId"], wrong
        assert not model(confidential={"enabled": False, "resourceId": wrong})


@pytest.mark.parametrize(
    ("annotations", "fields", "wrong"),
    [
        (STANDARD, {"scaleMetric": "rps"}, "scaleMetric"),
        (STANDARD, {"scaleMetric": "cpu", "scaleTarget": 101}, "scaleTarget"),
        (STANDARD, {"scaleMetric": "memory", "scaleTarget": 0}, "scaleTarget"),
        (STANDARD, {"autoScaling": {"metrics": [{"type": "External"}]}}, "autoScaling.metrics[0].type"),
        (KEDA, {"scaleMetric": "cpu"}, "scaleMetric"),
        (
            KEDA,
            {"autoScaling": {"metrics": [{"type": "External", "external": {}}]}},
            "autoScaling.metrics[0].external.metric.query",
        ),
        (
            KEDA,
            {
                "autoScaling": {
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Value"}}}]
                }
            },
            "autoScaling.metrics[0].resource.target.type",
        ),
        (
            KEDA,
            {
                "autoScaling": {
                    "metrics": [
                        {
                            "type": "Resource",
                            "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Ki"}},
                        }
                    ]
                }
            },
            "autoScaling.metrics[0].resource.target.averageValue",
        ),
        ({"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}, {"scaleMetric": "rps"}, "scaleMetric"),
    ],
)
def test_each_autoscaler_has_its_own_metrics(annotations: dict[str, str], fields: dict[str, Any], wrong: str) -> None:
    assert f"spec.predictor.{wrong}" in refused(isvc(fields, annotations))


def test_memory_targets_of_an_hpa_may_exceed_100() -> None:
    assert not refused(isvc({"scaleMetric": "memory", "scaleTarget": 500}, STANDARD))


def canary(name: str | None = "b", percent: int = 10, **fields: Any) -> dict[str, Any]:
    return {"predictor": {**({"name": name} if name else {}), "model": MODEL, **fields}, "trafficPercent": percent}


@pytest.mark.parametrize(
    ("canaries", "wrong"),
    [
        ([canary(None)], "spec.canary[0].predictor.name"),
        ([canary(), canary()], "spec.canary[1].predictor.name"),
        ([canary(maxReplicas=3)], "spec.canary[0].predictor.maxReplicas"),
        ([canary(workerSpec={})], "spec.canary[0].predictor.workerSpec"),
        ([canary(minReplicas=2)], "spec.canary[0].predictor.minReplicas"),
        ([canary(model=None)], "spec.canary[0].predictor.model"),
        ([canary(timeout=-1)], "spec.canary[0].predictor.timeout"),
        ([canary(percent=101)], "spec.canary[0].trafficPercent"),
        ([canary(percent=60), canary("c", 60)], "spec.canary"),
    ],
)
def test_canaries_of_standard_mode_must_fit_together(canaries: list[dict[str, Any]], wrong: str) -> None:
    assert wrong in refused(isvc(annotations=STANDARD, canary=canaries))


def test_canaries_belong_to_standard_mode() -> None:
    assert "spec.canary" in refused(isvc(canary=[canary()]))
    assert not refused(isvc(annotations=STANDARD, canary=[canary()]))


def test_the_mode_cannot_be_changed() -> None:
    assert refused(isvc(annotations=STANDARD), old=isvc())
    assert not refused(isvc(annotations={"serving.kserve.io/deploymentMode": "Serverless"}), old=isvc())
    stored = {**isvc(annotations=STANDARD), "status": {"deploymentMode": "RawDeployment"}}
    assert not refused(isvc(annotations=STANDARD), old=stored)


def test_the_predictors_name_changes_only_with_its_model() -> None:
    assert "spec.predictor.name" in refused(isvc({"name": "b"}), old=isvc())
    assert not refused(isvc({"name": "b", "model": {**MODEL, "storageUri": "gs://other"}}), old=isvc())


def test_an_object_on_its_way_out_is_never_held_back() -> None:
    offered = isvc({"timeout": -1})
    offered["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not refused(offered, old=offered)


def test_status_and_deletions_are_not_judged() -> None:
    offered = isvc({"timeout": -1})
    assert admit_inference_service(request(offered, subresource="status")) == offered
    assert admit_inference_service(request(offered, operation=Operation.DELETE)) == offered


def test_a_wrong_type_is_named() -> None:
    assert "spec.predictor.model.args" in predictor(model={**MODEL, "args": "x"})
