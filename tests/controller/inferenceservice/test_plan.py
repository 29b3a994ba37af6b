"""The whole decision: children, status and events for a service in some world."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.istio import VirtualService
from controller.base.errors import UserError
from controller.inferenceservice.conditions import conclude, condition
from controller.inferenceservice.config import IngressSettings, Settings
from controller.inferenceservice.plan import plan_inference_service
from controller.reconcile.plan import Plan
from tests.controller.inferenceservice.builders import (
    NOW_S,
    conditions,
    container_status,
    knative_child,
    knative_service,
    plan,
    pod,
    runtime,
    service,
    settle,
    snapshot,
    virtual_service,
)

TRANSFORMER = {"containers": [{"name": "kserve-container", "image": "t"}]}
CRASHED = container_status(state={"terminated": {"exitCode": 1, "message": "boom", "reason": "Error"}})


def kinds(of: Plan) -> list[str]:
    return [f"{item.resource.group or 'core'}/{item.manifest['metadata']['name']}" for item in of.children]


def events(of: Plan) -> list[tuple[str, str]]:
    return [(event.type, event.reason) for event in of.events]


def status(of: Plan) -> dict[str, Any]:
    assert of.status is not None
    return dict(of.status)


def ready_service(**rest: Any) -> Any:
    """A service that is ready, with the status that says so."""
    return settle(service(**rest), knative_service(), virtual_service=virtual_service())


def test_a_new_service_gets_its_knative_service_and_its_name() -> None:
    made = plan()
    assert kinds(made) == ["serving.knative.dev/iris-predictor", "core/iris"]
    assert conditions(made) == {
        "IngressReady": ("Unknown", "Predictor ingress not created"),
        "PredictorReady": ("Unknown", ""),
        "Ready": ("Unknown", "Predictor ingress not created"),
        "Stopped": ("False", ""),
    }
    assert status(made)["clusterServingRuntimeName"] == "rt"
    assert events(made) == []


def test_a_runtime_of_the_namespace_is_shown_as_such() -> None:
    made = status(plan(runtimes=(runtime("own", kind="ServingRuntime"),)))
    assert made["servingRuntimeName"] == "own"
    assert "clusterServingRuntimeName" not in made


def test_a_ready_predictor_makes_the_service_ready_once_it_is_routed() -> None:
    created = plan(service(), knative_service())
    assert kinds(created)[-1] == "networking.istio.io/iris"
    assert conditions(created)["Ready"] == ("Unknown", "")
    routed = plan(service(), knative_service(), virtual_service=virtual_service())
    assert conditions(routed)["Ready"] == ("True", "")
    assert events(routed) == [("Normal", "InferenceServiceReady")]
    found = status(routed)
    assert found["url"] == "http://iris.ns.example.com"
    assert found["components"]["predictor"]["latestRolledoutRevision"] == "iris-predictor-00001"
    assert found["modelStatus"]["transitionStatus"] == "UpToDate"


def routed_as_the_gateway_says(generation: int, **word: Any) -> Plan:
    live = virtual_service().to_json()
    live["metadata"]["generation"] = 2
    live["status"] = {"observedGeneration": generation, "conditions": [{"type": "Reconciled", **word}]}
    settings = Settings(ingress=IngressSettings(await_reconciled=True))
    return plan(service(), knative_service(), virtual_service=VirtualService.parse(live), settings=settings)


def test_where_the_gateway_speaks_a_route_counts_from_its_word_on() -> None:
    waiting = plan(
        service(),
        knative_service(),
        virtual_service=virtual_service(),
        settings=Settings(ingress=IngressSettings(await_reconciled=True)),
    )
    assert conditions(waiting)["Ready"] == ("Unknown", "")
    assert conditions(routed_as_the_gateway_says(1, status="True"))["IngressReady"] == ("Unknown", "")
    assert conditions(routed_as_the_gateway_says(2, status="True"))["Ready"] == ("True", "")
    assert status(routed_as_the_gateway_says(2, status="True"))["url"] == "http://iris.ns.example.com"


def test_a_route_that_the_gateway_refuses_is_shown_with_its_reason() -> None:
    refused = routed_as_the_gateway_says(2, status="False", message="Envoy refuses x")
    assert conditions(refused)["IngressReady"] == ("False", "VirtualServiceRefused")
    assert conditions(refused)["Ready"] == ("False", "VirtualServiceRefused")
    assert any(item.get("message") == "Envoy refuses x" for item in status(refused)["conditions"])


def test_a_second_look_at_a_quiet_world_says_the_same_and_tells_nothing() -> None:
    first = ready_service()
    again = plan(first, knative_service(), virtual_service=virtual_service(), now_s=NOW_S + 1000)
    assert again.status == first.to_json()["status"]
    assert again.events == ()


def test_severity_stands_on_all_but_the_decisive_conditions() -> None:
    found = status(plan(service(), knative_service(), virtual_service=virtual_service()))["conditions"]
    assert {item["type"] for item in found if "severity" not in item} == {"IngressReady", "PredictorReady", "Ready"}


def test_conditions_of_knative_are_passed_on() -> None:
    made = plan(service(), knative_service(ready="Unknown", reason="RevisionMissing", message="waiting"))
    found = conditions(made)
    assert found["PredictorReady"] == ("Unknown", "RevisionMissing")
    assert found["PredictorRouteReady"] == ("Unknown", "RevisionMissing")
    assert found["RoutesReady"] == ("Unknown", "PredictorRouteReady not ready")
    assert found["LatestDeploymentReady"] == ("Unknown", "PredictorConfigurationReady not ready")


def test_what_knative_says_of_an_older_specification_is_not_known_of_this_one() -> None:
    stale = knative_service(generation=2, observed=1)
    made = plan(ready_service(), stale, virtual_service=virtual_service())
    found = conditions(made)
    assert found["PredictorReady"] == found["Ready"] == found["PredictorRouteReady"] == ("Unknown", "OutOfDate")
    assert found["LatestDeploymentReady"] == ("Unknown", "PredictorConfigurationReady not ready")
    assert found["IngressReady"] == ("True", "")
    told = status(made)
    assert told["url"] == "http://iris.ns.example.com"
    assert told["components"]["predictor"]["url"] == "http://iris-predictor.ns.example.com"
    assert told["modelStatus"]["transitionStatus"] == "InProgress"


def test_a_failure_of_an_older_specification_is_not_this_ones() -> None:
    stale = knative_service(ready="False", reason="RevisionFailed", generation=2, observed=1)
    made = plan(service(), stale, pods=(pod(CRASHED),))
    assert conditions(made)["PredictorReady"] == ("Unknown", "OutOfDate")
    assert "lastFailureInfo" not in status(made)["modelStatus"]


def test_the_transformers_reason_stands_over_the_predictors() -> None:
    of = service(transformer=TRANSFORMER)
    made = plan(of, knative_service(ready="Unknown"), knative_service("iris-transformer", ready="False"))
    assert conditions(made)["RoutesReady"] == ("False", "TransformerRouteReady not ready")
    assert conditions(made)["IngressReady"] == ("Unknown", "Predictor ingress not created")


def test_the_ingress_waits_for_the_transformer() -> None:
    made = plan(
        service(transformer=TRANSFORMER), knative_service(), knative_service("iris-transformer", ready="Unknown")
    )
    assert conditions(made)["Ready"] == ("Unknown", "Transformer ingress not created")


def test_a_first_model_that_fails_makes_the_predictor_fail_with_its_words() -> None:
    made = plan(service(), knative_service(ready="Unknown"), pods=(pod(CRASHED),))
    assert conditions(made)["PredictorReady"] == ("False", "ModelLoadFailed")
    assert conditions(made)["Ready"] == ("False", "ModelLoadFailed")
    ready = next(item for item in status(made)["conditions"] if item["type"] == "Ready")
    assert ready["message"] == "boom"
    assert events(made) == [("Warning", "ModelLoadFailed")]
    again = settle(service(), knative_service(ready="Unknown"), pods=(pod(CRASHED),))
    assert plan(again, knative_service(ready="Unknown"), pods=(pod(CRASHED),)).events == ()


def test_a_new_model_that_fails_leaves_the_old_one_serving() -> None:
    live = knative_service(ready="Unknown", created="iris-predictor-00002", latest_ready="iris-predictor-00001")
    crashed = pod(CRASHED, revision="iris-predictor-00002")
    made = plan(ready_service(), live, pods=(crashed,), virtual_service=virtual_service())
    assert conditions(made)["PredictorReady"] == ("Unknown", "")
    assert conditions(made)["IngressReady"] == ("True", "")
    assert status(made)["modelStatus"]["states"] == {"activeModelState": "Loaded", "targetModelState": "FailedToLoad"}
    assert status(made)["url"] == "http://iris.ns.example.com"


def test_a_service_that_fails_tells_why() -> None:
    made = plan(
        ready_service(), knative_service(ready="False", reason="RevisionFailed"), virtual_service=virtual_service()
    )
    assert events(made) == [("Warning", "RuntimeUnhealthy"), ("Warning", "InferenceServiceNotReady")]
    event = made.events[-1]
    assert event.message == "InferenceService [iris] is no longer Ready because of: PredictorReady, Ready"


def test_a_spec_that_cannot_work_touches_no_child() -> None:
    before = ready_service()
    changed = before.replace(
        spec=service({"model": {"modelFormat": {"name": "fortran"}}}).spec,
        metadata=before.metadata.replace(generation=2),
    )
    made = plan(changed, knative_service(), virtual_service=virtual_service())
    assert made.keep_children
    assert conditions(made)["PredictorReady"] == ("False", "NoSupportingRuntime")
    assert conditions(made)["Ready"] == ("False", "NoSupportingRuntime")
    assert conditions(made)["IngressReady"] == ("True", "")
    found = status(made)
    assert found["url"] == "http://iris.ns.example.com"
    assert found["components"]["predictor"]["latestReadyRevision"] == "iris-predictor-00001"
    assert "fortran" in found["modelStatus"]["lastFailureInfo"]["message"]
    assert ("Warning", "NoSupportingRuntime") in events(made)


def test_a_spec_that_is_mended_is_ready_again() -> None:
    broken = settle(service({"model": {"modelFormat": {"name": "fortran"}}}))
    mended = broken.replace(spec=service().spec, metadata=broken.metadata.replace(generation=2))
    made = plan(mended, knative_service(), virtual_service=virtual_service())
    assert conditions(made)["Ready"] == ("True", "")
    assert "lastFailureInfo" not in status(made)["modelStatus"]


def test_a_service_that_serves_does_not_mind_that_its_runtime_goes_away() -> None:
    before = ready_service()
    made = plan(before, knative_service(), virtual_service=virtual_service(), runtimes=())
    assert made.keep_children
    assert conditions(made)["Ready"] == ("True", "")
    assert status(made)["clusterServingRuntimeName"] == "rt"
    assert made.events == ()


def test_a_service_can_refuse_to_follow_its_runtime() -> None:
    meta = {"annotations": {"serving.kserve.io/disable-auto-update": "true"}}
    of = ready_service(meta=meta)
    assert plan(of, knative_service(), virtual_service=virtual_service()).keep_children
    changed = of.replace(metadata=of.metadata.replace(generation=2))
    assert not plan(changed, knative_service(), virtual_service=virtual_service()).keep_children


def test_a_stopped_service_has_no_children_and_says_so() -> None:
    before = ready_service()
    of = before.replace(metadata=service(meta={"annotations": {"serving.kserve.io/stop": "TRUE"}}).metadata)
    made = plan(of, knative_service(), virtual_service=virtual_service())
    assert (made.children, made.keep_children) == ((), False)
    assert conditions(made) == {
        "IngressReady": ("False", "Stopped"),
        "PredictorReady": ("False", "Stopped"),
        "Ready": ("False", "Stopped"),
        "Stopped": ("True", ""),
    }
    found = status(made)
    assert found["clusterServingRuntimeName"] == "rt"
    assert found["modelStatus"] == {"transitionStatus": ""}
    assert {"url", "address", "components"}.isdisjoint(found)
    assert events(made) == [("Warning", "InferenceServiceNotReady")]


def test_a_stopped_service_starts_again_from_nothing() -> None:
    stopped = settle(service(meta={"annotations": {"serving.kserve.io/stop": "true"}}))
    again = stopped.replace(metadata=service().metadata)
    assert kinds(plan(again)) == ["serving.knative.dev/iris-predictor", "core/iris"]
    assert conditions(plan(again))["Stopped"] == ("False", "")


def test_a_service_on_its_way_out_is_let_go() -> None:
    meta = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["inferenceservice.finalizers", "other"]}
    made = plan(service(meta=meta))
    assert made.finalizers == ("other",)
    assert made.keep_children
    assert made.status is None


@pytest.mark.parametrize("mode", ["Standard", "ModelMesh"])
def test_a_mode_that_is_not_there_yet_is_a_condition(mode: str) -> None:
    made = plan(service(meta={"annotations": {"serving.kserve.io/deploymentMode": mode}}))
    assert conditions(made)["PredictorReady"] == ("False", "DeploymentModeNotSupported")
    assert status(made)["deploymentMode"] == mode


def test_a_refused_child_is_a_condition() -> None:
    error = UserError("ReconcileFailed", "admission webhook denied the request: no")
    made = plan(refusal=error)
    assert made.keep_children
    assert conditions(made)["Ready"] == ("False", "ReconcileFailed")
    assert status(made)["modelStatus"] == {"transitionStatus": ""}


def test_a_canary_is_split_off_the_stable_revision() -> None:
    before = ready_service()
    of = before.replace(spec=service({"canaryTrafficPercent": 20}).spec)
    child = knative_child(plan(of, knative_service(), virtual_service=virtual_service()))
    assert child["spec"]["traffic"] == [
        {"latestRevision": True, "percent": 20},
        {"revisionName": "iris-predictor-00001", "latestRevision": False, "percent": 80, "tag": "prev"},
    ]


def test_a_knative_service_that_vanished_is_made_anew_with_all_traffic() -> None:
    before = ready_service()
    of = before.replace(spec=service({"canaryTrafficPercent": 20}).spec)
    made = plan(of)
    assert knative_child(made)["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
    assert status(made)["components"] == {"predictor": {}}


def test_a_removed_component_leaves_the_status() -> None:
    of = service(transformer=TRANSFORMER)
    both = settle(
        of, knative_service(), knative_service("iris-transformer"), virtual_service=virtual_service("iris-transformer")
    )
    alone = both.replace(spec=service().spec)
    made = plan(alone, knative_service(), virtual_service=virtual_service())
    assert list(status(made)["components"]) == ["predictor"]
    assert "TransformerReady" not in conditions(made)


def test_status_is_read_back_as_it_was_written() -> None:
    first = ready_service()
    again = plan_inference_service(snapshot(first, knative_service(), virtual_service=virtual_service()))
    assert again.status == first.status.to_json()


def test_the_time_of_a_condition_moves_only_when_it_changes() -> None:
    first = conclude([condition("IngressReady", "True"), condition("PredictorReady", "Unknown")], (), 0)
    second = conclude([condition("IngressReady", "True"), condition("PredictorReady", "True")], first, 60)
    times = {item.type: item.lastTransitionTime for item in second}
    assert times["IngressReady"] == "1970-01-01T00:00:00Z"
    assert times["PredictorReady"] == times["Ready"] == "1970-01-01T00:01:00Z"


def test_a_failure_says_more_than_what_is_not_known_yet() -> None:
    failed = condition("PredictorReady", "False", reason="Bad", message="m")
    found = {
        item.type: item for item in conclude([condition("IngressReady", "Unknown", reason="Later"), failed], (), 0)
    }
    assert (found["Ready"].status, found["Ready"].reason, found["Ready"].message) == ("False", "Bad", "m")
