"""The Knative Service of a component: labels, annotations, scaling, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.inferenceservice.config import Settings
from tests.controller.inferenceservice.builders import knative_child, plan, runtime, service


def child(
    predictor: dict[str, Any] | None = None, *, meta: dict[str, Any] | None = None, **world: Any
) -> dict[str, Any]:
    return knative_child(plan(service(predictor, meta=meta), **world))


def annotations(predictor: dict[str, Any] | None = None, **rest: Any) -> dict[str, str]:
    found: dict[str, str] = child(predictor, **rest)["spec"]["template"]["metadata"]["annotations"]
    return found


def scaling(predictor: dict[str, Any]) -> dict[str, str]:
    prefix = "autoscaling.knative.dev/"
    found = annotations(predictor).items()
    return {name.removeprefix(prefix): value for name, value in found if name.startswith(prefix)} | {}


def test_it_is_controlled_by_the_service() -> None:
    (owner,) = child()["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "name": "iris",
        "uid": "u-isvc",
        "controller": True,
        "blockOwnerDeletion": True,
    }


def test_min_scale_is_always_there() -> None:
    assert scaling({}) == {"class": "kpa.autoscaling.knative.dev", "min-scale": "1"}
    assert scaling({"minReplicas": 0})["min-scale"] == "0"


def test_a_maximum_of_zero_is_none() -> None:
    assert "max-scale" not in scaling({"maxReplicas": 0})
    assert scaling({"maxReplicas": 3})["max-scale"] == "3"


def test_target_and_metric_are_passed_on() -> None:
    found = scaling({"scaleTarget": 5, "scaleMetric": "rps"})
    assert (found["target"], found["metric"]) == ("5", "rps")


def test_fields_win_over_annotations_but_the_class_is_the_users() -> None:
    given = {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev", "autoscaling.knative.dev/target": "9"}
    found = annotations({"scaleTarget": 5}, meta={"annotations": given})
    assert found["autoscaling.knative.dev/class"] == "hpa.autoscaling.knative.dev"
    assert found["autoscaling.knative.dev/target"] == "5"


def test_labels_and_annotations_lie_over_each_other_runtime_service_component() -> None:
    base = runtime(labels={"a": "rt", "b": "rt", "c": "rt"}, annotations={})
    found = child({"labels": {"c": "component"}}, meta={"labels": {"b": "isvc"}}, runtimes=(base,))["metadata"][
        "labels"
    ]
    assert (found["a"], found["b"], found["c"]) == ("rt", "isvc", "component")
    assert found["serving.kserve.io/inferenceservice"] == "iris"
    assert found["component"] == "predictor"


def test_nobody_can_take_the_labels_by_which_it_is_found() -> None:
    assert child({"labels": {"component": "mine"}})["metadata"]["labels"]["component"] == "predictor"


def test_annotations_that_are_the_services_own_are_not_passed_on() -> None:
    given = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "autoscaling.knative.dev/min-scale": "9",
        "x": "y",
    }
    found = annotations(meta={"annotations": given})
    assert "kubectl.kubernetes.io/last-applied-configuration" not in found
    assert "modelFormat" not in found
    assert (found["x"], found["autoscaling.knative.dev/min-scale"]) == ("y", "1")


def test_visibility_stays_on_the_service_and_off_its_revisions() -> None:
    found = child(meta={"labels": {"networking.knative.dev/visibility": "cluster-local"}})
    assert "networking.knative.dev/visibility" in found["metadata"]["labels"]
    assert "networking.knative.dev/visibility" not in found["spec"]["template"]["metadata"]["labels"]


def test_rollout_duration_belongs_to_the_knative_service() -> None:
    given = {"serving.knative.dev/rollout-duration": "10s", "other": "x"}
    assert child(meta={"annotations": given})["metadata"]["annotations"] == {
        "serving.knative.dev/rollout-duration": "10s"
    }


@pytest.mark.parametrize(
    ("value", "zero_allowed", "kept"),
    [("3", False, True), ("0", False, False), ("0", True, True), ("many", True, False)],
)
def test_an_initial_scale_that_knative_would_refuse_is_dropped(value: str, zero_allowed: bool, kept: bool) -> None:
    settings = replace(Settings(), zero_initial_scale_allowed=zero_allowed)
    found = annotations(meta={"annotations": {"autoscaling.knative.dev/initial-scale": value}}, settings=settings)
    assert ("autoscaling.knative.dev/initial-scale" in found) is kept


def test_one_timeout_is_both_of_knatives() -> None:
    spec = child({"timeout": 30, "containerConcurrency": 1})["spec"]["template"]["spec"]
    assert (spec["timeoutSeconds"], spec["responseStartTimeoutSeconds"], spec["containerConcurrency"]) == (30, 30, 1)


def test_what_is_not_said_is_left_to_knative() -> None:
    spec = child()["spec"]["template"]["spec"]
    assert {"timeoutSeconds", "responseStartTimeoutSeconds", "containerConcurrency"}.isdisjoint(spec)


def test_a_named_predictor_has_its_name_in_the_child() -> None:
    made = plan(service({"name": "blue"}))
    assert knative_child(made, "iris-blue-predictor")["metadata"]["name"] == "iris-blue-predictor"
