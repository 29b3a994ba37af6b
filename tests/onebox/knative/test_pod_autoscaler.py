"""A revision's PodAutoscaler and ServerlessService, beside what Knative made of the same Services."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.core import Endpoints
from controller.api.knative import PodAutoscaler, Revision, ServerlessService
from controller.base.names import child_name
from onebox.knative.autoscaler.report import SCALE_UNKNOWN, Activity, ScaleReport
from onebox.knative.pod_autoscaler.plan import (
    SETTLE_S,
    ScaleSnapshot,
    build_pod_autoscaler,
    build_serverless_service,
    plan_pod_autoscaler,
    plan_serverless_service,
)
from onebox.knative.settings import ServingSettings
from tests.onebox.knative.comparing import conditions, unexplained
from tests.onebox.knative.recordings import LONG, SERVICES, find, load, needs_recordings, recorded_settings

NOW_S = 1_795_000_000.0
CREATED = "2026-11-18T11:06:40Z"
"""NOW_S as Kubernetes writes it."""
QUEUED = "Requests to the target are being buffered as resources are provisioned."
SERVER_FIELDS = {
    r"status.*": "compared by themselves",
    r"metadata\.(uid|generation)": "the API server fills it in",
    r"metadata\.ownerReferences\[0\]\.uid": "uids are placeholders",
}
REVISIONS = [(name, f"{name}-00001") for name in SERVICES if name != "named"] + [
    ("named", "named-first"),
    (LONG, child_name(LONG, "-00001")),
]
TRUE, INFO = ("True", "", "", ""), "Info"
BACKED = "Revision is backed by Activator"


def report(**fields: Any) -> ScaleReport:
    return ScaleReport(**{"want": 1, "activity": Activity.ACTIVE, "initialized": True, "ready": 1, **fields})


def snapshot(revision: Revision | None = None, *, ready: bool = True, **fields: Any) -> ScaleSnapshot:
    subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "http", "port": 1}]}] if ready else []
    made = revision or Revision.parse({"metadata": {"name": "a-00001", "namespace": "ns", "uid": "r"}})
    autoscaler = {"metadata": {"name": made.metadata.name, "uid": "p", "generation": 1, "creationTimestamp": CREATED}}
    defaults = {
        "revision": made,
        "settings": ServingSettings(),
        "report": report(),
        "pods": Endpoints.parse({"subsets": subsets}),
        "autoscaler": PodAutoscaler.parse(autoscaler),
        "now_s": NOW_S,
    }
    return ScaleSnapshot(**{**defaults, **fields})


def autoscaler_status(of: ScaleSnapshot) -> Any:
    return plan_pod_autoscaler(of, ServerlessService()).status


@needs_recordings
@pytest.mark.parametrize(("service", "name"), REVISIONS)
def test_both_are_the_recorded_ones(service: str, name: str) -> None:
    objects = load(f"created/{service}.yaml")
    revision, settings = Revision.parse(find(objects, "Revision", name)), recorded_settings()
    theirs = find(objects, "PodAutoscaler")
    assert unexplained(build_pod_autoscaler(revision, settings), theirs, SERVER_FIELDS) == []
    new = snapshot(
        revision,
        settings=settings,
        autoscaler=PodAutoscaler.parse(theirs),
        report=report(ready=0, excess_burst_capacity=-1),
    )
    ours = build_serverless_service(new)
    assert unexplained(ours, find(objects, "ServerlessService"), SERVER_FIELDS) == []


@needs_recordings
def test_more_pods_need_more_activators_as_recorded() -> None:
    objects = load("ready/plain.yaml")
    revision = Revision.parse(find(objects, "Revision"))
    ready = snapshot(revision, settings=recorded_settings(), report=report(ready=1, excess_burst_capacity=-1))
    recorded = find(objects, "ServerlessService")["spec"]
    assert build_serverless_service(ready)["spec"] == recorded


@needs_recordings
def test_the_status_of_a_new_one_is_the_recorded_one() -> None:
    theirs = find(load("created/rps.yaml"), "PodAutoscaler")["status"]
    new = snapshot(
        Revision.parse({"metadata": {"name": "rps-00001", "namespace": "golden"}}),
        ready=False,
        report=report(
            want=3, ready=0, initialized=False, activity=Activity.ACTIVATING, reason="Queued", message=QUEUED
        ),
    )
    ours = autoscaler_status(new)
    assert conditions(ours) == conditions(theirs)
    assert {**ours, "conditions": []} == {**theirs, "conditions": []}


@needs_recordings
def test_the_status_of_an_idle_one_is_the_recorded_one() -> None:
    objects = load("ready/rps.yaml")
    idle = snapshot(
        Revision.parse({"metadata": {"name": "rps-00001", "namespace": "golden"}}),
        ready=False,
        report=report(
            want=0,
            ready=0,
            activity=Activity.INACTIVE,
            reason="NoTraffic",
            message="The target is not receiving traffic.",
        ),
    )
    theirs = find(objects, "PodAutoscaler")["status"]
    assert conditions(autoscaler_status(idle)) == conditions(theirs)
    service = ServerlessService.parse({"metadata": {"generation": 1}})
    ours = plan_serverless_service(idle, service).status
    assert ours is not None
    recorded = find(objects, "ServerlessService")["status"]
    assert conditions(ours) == conditions(recorded)
    assert {**ours, "conditions": []} == {**recorded, "conditions": []}


def test_a_revision_that_serves_is_ready_and_led_to_directly() -> None:
    serving = snapshot()
    assert build_serverless_service(serving)["spec"]["mode"] == "Serve"
    found = conditions(autoscaler_status(serving))
    assert found == {"Active": TRUE, "Ready": TRUE, "SKSReady": TRUE, "ScaleTargetInitialized": TRUE}
    status = plan_serverless_service(serving, ServerlessService()).status
    assert status is not None
    assert conditions(status)["Ready"] == TRUE
    assert conditions(status)["ActivatorEndpointsPopulated"][0] == "False"


def test_without_pods_requests_are_held_whatever_the_mode_says() -> None:
    status = plan_serverless_service(snapshot(ready=False), ServerlessService()).status
    assert status is not None
    found = conditions(status)
    assert found["ActivatorEndpointsPopulated"] == ("True", "ActivatorEndpointsPopulated", BACKED, INFO)
    assert found["Ready"] == ("Unknown", "NoHealthyBackends", "K8s Service is not ready", "")


@pytest.mark.parametrize(
    ("label", "said"), [("active", "Reachable"), ("reserve", "Unreachable"), ("pending", "Unknown"), ("", "Unknown")]
)
def test_reachability_follows_the_routing_state(label: str, said: str) -> None:
    labels = {"serving.knative.dev/routingState": label} if label else {}
    revision = Revision.parse({"metadata": {"name": "a", "namespace": "ns", "labels": labels}})
    assert build_pod_autoscaler(revision, ServingSettings())["spec"]["reachability"] == said


def test_a_new_one_waits_for_something_to_say_but_not_for_ever() -> None:
    silent = report(want=SCALE_UNKNOWN, initialized=False, activity=Activity.ACTIVATING)
    early = plan_pod_autoscaler(snapshot(report=silent), None)
    assert (early.children, early.status) == ((), None)
    assert early.requeue_after_s == pytest.approx(SETTLE_S, abs=1)
    late = plan_pod_autoscaler(snapshot(report=silent, now_s=NOW_S + SETTLE_S + 1), None)
    assert late.children
    assert late.status is not None


def test_an_autoscaler_that_has_just_started_takes_nothing_back() -> None:
    before = snapshot()
    stored = {"metadata": {"name": "a-00001", "uid": "p"}, "status": autoscaler_status(before)}
    unsure = snapshot(report=report(want=SCALE_UNKNOWN), autoscaler=PodAutoscaler.parse(stored))
    plan = plan_pod_autoscaler(unsure, ServerlessService())
    assert plan.keep_children
    assert plan.status is None
    said = ServerlessService.parse({"status": plan_serverless_service(before, ServerlessService()).status})
    assert plan_serverless_service(unsure, said).status is None
