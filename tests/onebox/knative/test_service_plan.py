"""What a Service makes of the states of its Configuration and Route."""

from __future__ import annotations

from typing import Any

from controller.api.knative import Configuration, Revision, Route, Service
from controller.reconcile.plan import Plan
from onebox.knative.service.plan import ServiceSnapshot, plan_service
from tests.onebox.knative.building import (
    NOW_S,
    TEMPLATE,
    configuration,
    meta,
    revision,
    route,
    service,
    serving,
    status,
)
from tests.onebox.knative.comparing import conditions

NAMED = {**TEMPLATE, "metadata": {"name": "svc-mine"}}
WORKING = configuration(found=status("True", latestReadyRevisionName="svc-1", latestCreatedRevisionName="svc-1"))
ROUTED = route(found=status("True", url="http://svc", traffic=[{"revisionName": "svc-1", "percent": 100}]))


def plan(
    *,
    owner: Service | None = None,
    found: Configuration | None = WORKING,
    routed: Route | None = ROUTED,
    named: Revision | None = None,
) -> Plan:
    return plan_service(
        ServiceSnapshot(service=owner or service(), configuration=found, route=routed, named=named, now_s=NOW_S)
    )


def told(found: Plan) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition."""
    assert found.status is not None
    return {type_: words[:2] for type_, words in conditions(found.status).items()}


def kinds(found: Plan) -> list[str]:
    return [child.resource.kind for child in found.children]


def test_a_new_service_gets_both_children() -> None:
    found = plan(found=None, routed=None)
    assert kinds(found) == ["Configuration", "Route"]
    assert told(found)["Ready"] == ("Unknown", "OutOfDate")


def test_ready_when_both_are() -> None:
    found = plan()
    assert told(found)["Ready"] == ("True", "")
    assert found.status is not None
    assert found.status["url"] == "http://svc"
    assert found.status["latestReadyRevisionName"] == "svc-1"


def test_a_child_that_has_not_looked_yet_says_nothing() -> None:
    stale = configuration(generation=2, found=status("True", generation=1))
    assert told(plan(found=stale))["ConfigurationsReady"] == ("Unknown", "OutOfDate")


def test_a_failure_of_the_configuration_is_told() -> None:
    broken = configuration(found=status("False", reason="RevisionFailed", message="because"))
    found = plan(found=broken)
    assert told(found)["Ready"] == ("False", "RevisionFailed")


def test_what_was_known_stays_while_a_child_works() -> None:
    before = service().replace(status=Service().status.parse({"url": "http://old", "latestReadyRevisionName": "svc-0"}))
    found = plan(owner=before, found=None, routed=None)
    assert found.status is not None
    assert (found.status["url"], found.status["latestReadyRevisionName"]) == ("http://old", "svc-0")


def test_a_route_that_follows_late_is_no_ready_service() -> None:
    behind = route(found=status("True", traffic=[{"revisionName": "svc-0", "percent": 100}]))
    assert told(plan(routed=behind))["RoutesReady"] == ("Unknown", "TrafficNotMigrated")


def test_a_route_with_other_targets_is_no_ready_service() -> None:
    assert told(plan(routed=route(found=status("True", traffic=[]))))["Ready"] == ("Unknown", "TrafficNotMigrated")


def test_a_stranger_with_the_childs_name_is_left_alone() -> None:
    stranger = WORKING.replace(metadata=WORKING.metadata.parse(meta("svc")))
    found = plan(found=stranger)
    assert found.keep_children
    assert told(found)["ConfigurationsReady"] == ("False", "NotOwned")
    assert [event.reason for event in found.events] == ["NotOwned"]


def test_with_a_name_of_the_users_own_the_route_waits_for_the_configuration() -> None:
    waiting = configuration(template=NAMED, generation=2, found=status("True", generation=1))
    assert kinds(plan(owner=service(template=NAMED), found=waiting)) == ["Configuration"]


def test_with_a_name_of_the_users_own_the_route_follows() -> None:
    seen = configuration(template=NAMED, found=status("True", latestReadyRevisionName="svc-1"))
    assert kinds(plan(owner=service(template=NAMED), found=seen)) == ["Configuration", "Route"]


def test_a_name_that_is_taken_moves_no_traffic() -> None:
    seen = configuration(template=NAMED, found=status("False"))
    taken = revision("svc-mine", owner="Configuration/other")
    found = plan(owner=service(template=NAMED), found=seen, named=taken)
    assert kinds(found) == ["Configuration"]
    assert told(found)["RoutesReady"] == ("False", "RevisionNameTaken")


def test_children_get_no_memory_of_kubectl() -> None:
    annotations = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "serving.knative.dev/rollout-duration": "10s",
        "mine": "1",
    }
    owner = Service.parse(serving("Service", meta("svc", annotations=annotations), service().spec.to_json(), None))
    found = {child.resource.kind: child.manifest["metadata"]["annotations"] for child in plan(owner=owner).children}
    assert found["Configuration"] == {"mine": "1", "serving.knative.dev/routes": "svc"}
    assert found["Route"] == {"mine": "1", "serving.knative.dev/rollout-duration": "10s"}


def test_routes_of_others_stay_in_the_configurations_annotation() -> None:
    marked = configuration(annotations={"serving.knative.dev/routes": "another,svc"})
    manifest: Any = plan(found=marked).children[0].manifest
    assert manifest["metadata"]["annotations"]["serving.knative.dev/routes"] == "another,svc"
