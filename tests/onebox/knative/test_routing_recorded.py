"""Services, Configurations and Routes beside what Knative made of the same manifests, from creation through an update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from controller.api.core import Service as PlainService
from controller.api.knative import Configuration, Revision, Route, Service
from onebox.knative.configuration.plan import ConfigurationSnapshot, build_revision, plan_configuration
from onebox.knative.route.plan import RouteSnapshot, plan_route
from onebox.knative.service.plan import ServiceSnapshot, build_configuration, build_route, plan_service
from tests.onebox.knative.comparing import conditions, unexplained
from tests.onebox.knative.recordings import LONG, SERVICES, find, load, needs_recordings, recorded_settings

pytestmark = needs_recordings

NOW_S = 1_795_000_000.0
NAMES = (*SERVICES, LONG)
FOLDERS = [(folder, name) for folder in ("created", "ready") for name in NAMES] + [
    (folder, name) for folder in ("updating", "updated") for name in ("autoscaled", "plain")
]
FILLED_IN_BY_THE_API_SERVER = "the API server fills it in"
OBJECT_DIFFERENCES = {
    r"status.*": "compared by itself",
    r"metadata\.(generation|uid)": FILLED_IN_BY_THE_API_SERVER,
    r"metadata\.finalizers": "routing marks are taken away by looking, not by holding a deletion up",
    r"metadata\.annotations\.serving\.knative\.dev/routingStateModified": "when it was",
}
PLACEHOLDER_DIFFERENCES = {
    **OBJECT_DIFFERENCES,
    r"spec\.externalName": "the recording's gateway has another name",
    r"metadata\.annotations\.serving\.knative\.dev/rollout-duration": "Knative keeps what was removed from the Service",
}


class Recording:
    """One recorded file, and what is in it by kind."""

    def __init__(self, folder: str, name: str) -> None:
        self.objects = load(f"{folder}/{name}.yaml")
        self.service = Service.parse(self.one("Service", name))
        self.configuration = Configuration.parse(self.one("Configuration", name))
        self.route = Route.parse(self.one("Route", name))
        self.revisions = [Revision.parse(obj) for obj in self.objects if obj["kind"] == "Revision"]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        return find(self.objects, kind, name, group="serving")

    def named(self) -> Revision | None:
        name = self.service.spec.template.metadata.name
        return next((found for found in self.revisions if found.metadata.name == name), None)

    def route_snapshot(self, route: Route, *, live: bool = True) -> RouteSnapshot:
        return RouteSnapshot(
            route=route,
            settings=recorded_settings(),
            gateway_port=80,
            configurations={self.configuration.metadata.name: self.configuration},
            revisions={found.metadata.name: found for found in self.revisions},
            services={},
            live=live,
            refusal="",
            now_s=NOW_S,
        )


def checked(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Both statuses say the same, in conditions and all other fields."""
    assert conditions(ours) == conditions(theirs)
    assert {**ours, "conditions": []} == {**theirs, "conditions": []}


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_children_of_a_service_are_the_recorded_ones(folder: str, name: str) -> None:
    recording = Recording(folder, name)
    configuration = build_configuration(recording.service, recording.configuration)
    assert unexplained(configuration, recording.one("Configuration", name), OBJECT_DIFFERENCES) == []
    assert unexplained(build_route(recording.service), recording.one("Route", name), OBJECT_DIFFERENCES) == []


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_revision_of_a_configuration_is_the_recorded_one(folder: str, name: str) -> None:
    recording = Recording(folder, name)
    ours = build_revision(recording.configuration, now_s=NOW_S)
    theirs = recording.one("Revision", ours["metadata"]["name"])
    assert unexplained(ours, theirs, OBJECT_DIFFERENCES) == []


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_status_of_a_service_is_the_recorded_one(folder: str, name: str) -> None:
    recording = Recording(folder, name)
    service = recording.service.replace(status=Service().status)
    snapshot = ServiceSnapshot(
        service=service,
        configuration=recording.configuration,
        route=recording.route,
        named=recording.named(),
        now_s=NOW_S,
    )
    status = plan_service(snapshot).status
    assert status is not None
    checked(status, recording.one("Service", name)["status"])


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_status_of_a_configuration_is_the_recorded_one(folder: str, name: str) -> None:
    recording = Recording(folder, name)
    known = {"latestReadyRevisionName": recording.configuration.status.latestReadyRevisionName}
    before = Configuration().status.parse({key: value for key, value in known.items() if value})
    snapshot = ConfigurationSnapshot(
        configuration=recording.configuration.replace(status=before),
        revisions=tuple(recording.revisions),
        named=recording.named(),
        now_s=NOW_S,
    )
    plan = plan_configuration(snapshot)
    assert plan.children == ()
    assert plan.status is not None
    checked(plan.status, recording.one("Configuration", name)["status"])


@pytest.mark.parametrize(("folder", "name"), FOLDERS)
def test_status_of_a_route_is_the_recorded_one(folder: str, name: str) -> None:
    recording = Recording(folder, name)
    fresh = recording.route.replace(status=Route().status)
    theirs = recording.one("Route", name)["status"]
    # In these recordings nobody had marked the changed Ingress ready yet.
    live = conditions(theirs)["IngressReady"][0] == "True"
    status = plan_route(recording.route_snapshot(fresh, live=live)).status
    assert status is not None
    checked(status, theirs)


@pytest.mark.parametrize(("folder", "name"), [entry for entry in FOLDERS if entry[0] != "created"])
def test_virtual_service_says_what_the_recorded_ingress_says(folder: str, name: str) -> None:
    recording = Recording(folder, name)
    children = plan_route(recording.route_snapshot(recording.route)).children
    ours = next(child.manifest for child in children if child.resource.kind == "VirtualService")
    ingress = find(recording.objects, "Ingress")
    assert ours["metadata"]["name"] == f"{name}-ingress" or name == LONG
    hosts = {host for rule in ingress["spec"]["rules"] for host in rule["hosts"]}
    assert set(ours["spec"]["hosts"]) == hosts
    routes = [entry for entry in ours["spec"]["http"] if "headers" not in entry]  # Those that are for no probe.
    for rule, entry in zip(ingress["spec"]["rules"], routes, strict=True):
        gateway = "ingress" if rule["visibility"] == "ExternalIP" else "local"
        assert entry["match"][0]["gateways"] == [f"knative-serving/knative-{gateway}-gateway"]
        for split, target in zip(rule["http"]["paths"][0]["splits"], entry["route"], strict=True):
            host = f"{split['serviceName']}.{split['serviceNamespace']}.svc.cluster.local"
            assert target["destination"] == {"host": host, "port": {"number": split["servicePort"]}}
            assert target["weight"] == split["percent"]
            assert target["headers"]["request"]["set"] == split["appendHeaders"]
    tags = ingress["metadata"]["annotations"].get("networking.internal.knative.dev/tag-to-host")
    assert ours["metadata"]["annotations"].get("networking.internal.knative.dev/tag-to-host") == tags


@pytest.mark.parametrize(("folder", "name"), [entry for entry in FOLDERS if entry[0] != "created"])
def test_placeholder_services_are_the_recorded_ones(folder: str, name: str) -> None:
    recording = Recording(folder, name)
    children = plan_route(recording.route_snapshot(recording.route)).children
    ours = [child.manifest for child in children if child.resource.kind == "Service"]
    theirs = [obj for obj in recording.objects if obj.get("spec", {}).get("type") == "ExternalName"]
    assert sorted(manifest["metadata"]["name"] for manifest in ours) == sorted(
        obj["metadata"]["name"] for obj in theirs
    )
    for manifest in ours:
        recorded = find(theirs, "Service", manifest["metadata"]["name"])
        assert PlainService.parse(manifest).spec.type == "ExternalName"
        assert unexplained(manifest, recorded, PLACEHOLDER_DIFFERENCES) == []
