"""A Route's children, names and status beyond what was recorded; and the marks it leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.api.core import Service
from controller.api.knative import Configuration, Revision, Route
from controller.kube.resources import CONFIGURATIONS, REVISIONS
from controller.reconcile.plan import Plan
from onebox.knative.route.plan import RouteSnapshot, plan_route
from onebox.knative.route.routing import MetadataPatch, RoutingSnapshot, plan_routing
from onebox.knative.settings import ServingSettings, parse_settings
from tests.onebox.knative.building import NOW_S, configuration, meta, revision, route, status
from tests.onebox.knative.comparing import conditions

READY = configuration(found=status("True", latestReadyRevisionName="svc-1", latestCreatedRevisionName="svc-1"))
SETTINGS = parse_settings({"config-domain": {"localhost": ""}})
SPLIT = (
    {"configurationName": "svc", "latestRevision": True, "percent": 100},
    {"revisionName": "svc-1", "latestRevision": False, "percent": 0, "tag": "v1"},
)


def plan(
    found: Route | None = None,
    *,
    settings: ServingSettings = SETTINGS,
    services: dict[str, Service] | None = None,
    live: bool = True,
    **fields: Any,
) -> Plan:
    given: dict[str, Any] = {
        "configurations": {"svc": READY},
        "revisions": {"svc-1": revision("svc-1")},
        "gateway_port": 8080,
        "refusal": "",
        **fields,
    }
    return plan_route(
        RouteSnapshot(
            route=found or route(), settings=settings, services=services or {}, live=live, now_s=NOW_S, **given
        )
    )


def told(found: Plan) -> dict[str, tuple[str, str]]:
    assert found.status is not None
    return {type_: words[:2] for type_, words in conditions(found.status).items()}


def manifests(found: Plan, kind: str) -> dict[str, Any]:
    return {
        child.manifest["metadata"]["name"]: child.manifest for child in found.children if child.resource.kind == kind
    }


def test_the_public_url_names_the_gateways_port() -> None:
    found = plan(route(*SPLIT))
    assert found.status is not None
    assert found.status["url"] == "http://svc.ns.localhost:8080"
    assert found.status["address"] == {"url": "http://svc.ns.svc.cluster.local"}
    assert found.status["traffic"][1]["url"] == "http://v1-svc.ns.localhost:8080"


def test_hosts_of_the_gateway_never_have_a_port() -> None:
    virtual_service = manifests(plan(), "VirtualService")["svc-ingress"]
    assert virtual_service["spec"]["hosts"] == ["svc.ns", "svc.ns.localhost", "svc.ns.svc", "svc.ns.svc.cluster.local"]


def test_each_rule_comes_for_probes_first() -> None:
    http = manifests(plan(), "VirtualService")["svc-ingress"]["spec"]["http"]
    assert [bool(entry.get("headers")) for entry in http] == [True, False, True, False]
    probe, plain = http[0], http[1]
    assert probe["match"][0]["headers"] == {"K-Network-Hash": {"exact": "override"}}
    assert (
        probe["headers"]["request"]["set"]["K-Network-Hash"] == http[2]["headers"]["request"]["set"]["K-Network-Hash"]
    )
    assert plain["match"] == [
        {"authority": {"prefix": "svc.ns"}, "gateways": ["knative-serving/knative-local-gateway"]}
    ]
    assert (plain["retries"], "timeout" in plain) == ({}, False)


def test_the_digest_follows_the_traffic() -> None:
    def digest(found: Plan) -> str:
        entry = manifests(found, "VirtualService")["svc-ingress"]["spec"]["http"][0]
        value: str = entry["headers"]["request"]["set"]["K-Network-Hash"]
        return value

    assert digest(plan()) == digest(plan())
    assert digest(plan()) != digest(plan(route(*SPLIT)))


def test_a_closed_route_is_on_the_local_gateway_only() -> None:
    labels = {"serving.knative.dev/service": "svc", "networking.knative.dev/visibility": "cluster-local"}
    found = plan(route(labels=labels))
    assert found.status is not None
    assert found.status["url"] == "http://svc.ns.svc.cluster.local"
    spec = manifests(found, "VirtualService")["svc-ingress"]["spec"]
    assert spec["gateways"] == ["knative-serving/knative-local-gateway"]


def test_a_label_on_a_placeholder_closes_that_target_only() -> None:
    metadata = meta("v1-svc", owner="Route/svc", labels={"networking.knative.dev/visibility": "cluster-local"})
    found = plan(route(*SPLIT), services={"v1-svc": Service.parse({"metadata": metadata})})
    assert found.status is not None
    assert found.status["url"] == "http://svc.ns.localhost:8080"
    assert found.status["traffic"][1]["url"] == "http://v1-svc.ns.svc.cluster.local"


def test_a_bad_target_leaves_what_is_in_force() -> None:
    before = route(found=status("True", url="http://svc", traffic=[{"revisionName": "svc-0", "percent": 100}]))
    found = plan(before, configurations={})
    assert found.keep_children
    assert told(found)["Ready"] == ("False", "ConfigurationMissing")
    assert found.status is not None
    assert found.status["traffic"] == [{"revisionName": "svc-0", "percent": 100}]


def test_not_ready_until_the_gateway_has_it() -> None:
    assert told(plan(live=False))["Ready"] == ("Unknown", "IngressNotConfigured")
    assert told(plan(live=True))["Ready"] == ("True", "")


def test_what_the_gateway_refuses_is_told() -> None:
    found = plan(live=False, refusal="no such cluster")
    assert found.status is not None
    assert conditions(found.status)["Ready"][:3] == ("False", "IngressRefused", "no such cluster")


def test_a_placeholders_name_that_is_taken() -> None:
    found = plan(services={"svc": Service.parse({"metadata": meta("svc")})})
    assert found.keep_children
    assert told(found)["IngressReady"] == ("False", "NotOwned")


def test_a_template_that_cannot_be_filled_in_is_told() -> None:
    # Settings are checked when they are read; a template may still ask for what only some routes have.
    broken = replace(SETTINGS, network=replace(SETTINGS.network, domain_template="{{.Nonsense}}"))
    assert told(plan(settings=broken))["AllTrafficAssigned"] == ("False", "InvalidTemplate")


# Marks.


def patches(
    found: Route | None,
    *,
    configurations: dict[str, Configuration] | None = None,
    revisions: dict[str, Revision] | None = None,
    marked: tuple[Revision, ...] = (),
) -> tuple[MetadataPatch, ...]:
    return plan_routing(
        RoutingSnapshot(
            namespace="ns",
            name="svc",
            route=found,
            configurations=configurations or {},
            revisions=revisions or {},
            marked_configurations=(),
            marked_revisions=marked,
            now_s=NOW_S,
        )
    )


def marked(name: str, routes: str, state: str = "active") -> Revision:
    found = revision(name, routingState=state)
    return found.replace(metadata=found.metadata.replace(annotations={"serving.knative.dev/routes": routes}))


def test_what_a_route_names_is_marked() -> None:
    pending = revision("svc-1", routingState="pending")
    (first, second) = patches(route(), configurations={"svc": READY}, revisions={"svc-1": pending})
    assert (first.resource, first.patch["metadata"]["annotations"]["serving.knative.dev/routes"]) == (REVISIONS, "svc")
    assert first.patch["metadata"]["labels"] == {"serving.knative.dev/routingState": "active"}
    assert (second.resource, second.patch) == (
        CONFIGURATIONS,
        {"metadata": {"annotations": {"serving.knative.dev/routes": "svc"}}},
    )


def test_marks_that_are_there_are_not_written_again() -> None:
    configured = READY.replace(metadata=READY.metadata.replace(annotations={"serving.knative.dev/routes": "svc"}))
    assert patches(route(), configurations={"svc": configured}, revisions={"svc-1": marked("svc-1", "svc")}) == ()


@pytest.mark.parametrize(("routes", "left", "state"), [("svc", None, "reserve"), ("other,svc", "other", None)])
def test_what_a_settled_route_no_longer_names_loses_the_mark(routes: str, left: str | None, state: str | None) -> None:
    settled = route(found=status("True"))
    old = marked("svc-0", routes)
    (patch,) = patches(settled, revisions={"svc-1": marked("svc-1", "svc")}, marked=(old,))
    meta_patch = patch.patch["metadata"]
    assert meta_patch["annotations"]["serving.knative.dev/routes"] == left
    assert meta_patch.get("labels", {}).get("serving.knative.dev/routingState") == state
    assert ("serving.knative.dev/routingStateModified" in meta_patch["annotations"]) == (state is not None)


def test_marks_stay_while_a_route_is_on_its_way() -> None:
    assert patches(route(found=status("Unknown")), marked=(marked("svc-0", "svc"),)) == ()


def test_marks_of_a_route_that_is_gone_go() -> None:
    (patch,) = patches(None, marked=(marked("svc-0", "svc"),))
    assert patch.name == "svc-0"


def test_a_header_can_choose_a_tag_where_the_feature_is_on() -> None:
    features = {"config-domain": {"localhost": ""}, "config-features": {"tag-header-based-routing": "enabled"}}
    http = manifests(plan(route(*SPLIT), settings=parse_settings(features)), "VirtualService")["svc-ingress"]["spec"][
        "http"
    ]
    plain = [entry for entry in http if "K-Network-Hash" not in str(entry)]
    seen = [
        (
            entry["match"][0]["authority"]["prefix"],
            entry["match"][0].get("headers", {}).get("Knative-Serving-Tag", {}).get("exact", ""),
            entry.get("headers", {}).get("request", {}).get("set", {}),
        )
        for entry in plain
    ]
    assert seen == [
        ("svc.ns", "v1", {}),
        ("svc.ns", "", {"Knative-Serving-Default-Route": "true"}),
        ("svc.ns.localhost", "v1", {}),
        ("svc.ns.localhost", "", {"Knative-Serving-Default-Route": "true"}),
        ("v1-svc.ns", "", {"Knative-Serving-Tag": "v1"}),
        ("v1-svc.ns.localhost", "", {"Knative-Serving-Tag": "v1"}),
    ]


def test_a_tag_that_is_closed_to_the_outside_cannot_be_had_there_by_a_header() -> None:
    features = {"config-domain": {"localhost": ""}, "config-features": {"tag-header-based-routing": "enabled"}}
    labels = {"networking.knative.dev/visibility": "cluster-local"}
    closed = Service.parse({"metadata": meta("v1-svc", owner="Route/svc", labels=labels)})
    found = plan(route(*SPLIT), settings=parse_settings(features), services={"v1-svc": closed})
    http = manifests(found, "VirtualService")["svc-ingress"]["spec"]["http"]
    by_header = [entry["match"][0] for entry in http if "Knative-Serving-Tag" in entry["match"][0].get("headers", {})]
    assert {match["authority"]["prefix"] for match in by_header} == {"svc.ns"}
