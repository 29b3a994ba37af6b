"""Under which names a service answers, and how its names are routed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.base.errors import UserError
from controller.inferenceservice.components import components_of
from controller.inferenceservice.config import IngressSettings, Settings
from controller.inferenceservice.hosts import hosts_of, path_of
from controller.reconcile.plan import Plan
from tests.controller.inferenceservice.builders import (
    child,
    knative_service,
    plan,
    service,
    settle,
    virtual_service,
)

EXPLAINER = {"containers": [{"name": "kserve-container", "image": "e"}]}
TRANSFORMER = {"containers": [{"name": "kserve-container", "image": "t"}]}


def routed(*, url: str | None = None, meta: dict[str, Any] | None = None, **ingress: Any) -> dict[str, Any]:
    """The VirtualService of a service whose predictor is ready."""
    settings = Settings(ingress=IngressSettings(**ingress))
    return child(plan(service(meta=meta), knative_service(url=url), settings=settings), "VirtualService")


def regexes(manifest: dict[str, Any], route: int = 0) -> list[str]:
    return [match["authority"]["regex"] for match in manifest["spec"]["http"][route]["match"]]


def hosts_in(made: Plan) -> list[str]:
    """The Host that each route sets, in order."""
    routes = child(made, "VirtualService")["spec"]["http"]
    return [route["headers"]["request"]["set"]["Host"] for route in routes]


def test_the_services_names_lead_to_the_predictor() -> None:
    spec = routed()["spec"]
    assert spec["hosts"] == ["iris.ns.svc.cluster.local", "iris.ns.example.com"]
    assert spec["gateways"] == [
        "knative-serving/knative-local-gateway",
        "mesh",
        "knative-serving/knative-ingress-gateway",
    ]
    (route,) = spec["http"]
    assert route["headers"]["request"]["set"] == {
        "Host": "iris-predictor.ns.svc.cluster.local",
        "KServe-Isvc-Name": "iris",
        "KServe-Isvc-Namespace": "ns",
    }


def test_a_port_in_knatives_url_stays_in_the_url_and_out_of_the_hosts() -> None:
    url = "http://iris-predictor.ns.localhost:8080"
    made = plan(service(), knative_service(url=url), virtual_service=virtual_service())
    assert child(made, "VirtualService")["spec"]["hosts"] == ["iris.ns.svc.cluster.local", "iris.ns.localhost"]
    assert made.status is not None
    assert made.status["url"] == "http://iris.ns.localhost:8080"
    assert made.status["address"]["url"] == "http://iris.ns.svc.cluster.local"


def test_only_the_components_own_suffix_is_cut_off() -> None:
    of = service(name="a-predictor-b")
    (predictor,) = components_of(of)
    hosts = hosts_of(of, predictor, "http://a-predictor-b-predictor.ns.x-predictor.org", Settings())
    assert hosts.external == "a-predictor-b.ns.x-predictor.org"


@given(st.from_regex(r"[a-z]([a-z-]{0,10}[a-z])?", fullmatch=True), st.sampled_from(["", ":80", ":8080", ":65535"]))
def test_the_host_patterns_match_the_hosts_with_and_without_a_port(name: str, port: str) -> None:
    made = plan(service(name=name), knative_service(f"{name}-predictor"))
    manifest = child(made, "VirtualService")
    inside, outside = regexes(manifest)
    assert re.search(inside, f"{name}.ns.svc.cluster.local{port}")
    assert re.search(outside, f"{name}.ns.example.com{port}")
    assert not re.search(outside, f"{name}.ns.example.com.evil.org{port}")
    assert not re.search(outside, f"x{name}.ns.example.com{port}")
    assert not re.search(outside, f"{name}xnsxexample.com{port}")


def test_a_cluster_local_service_has_no_outside() -> None:
    manifest = routed(meta={"labels": {"networking.knative.dev/visibility": "cluster-local"}})
    assert manifest["spec"]["hosts"] == ["iris.ns.svc.cluster.local"]
    assert "knative-serving/knative-ingress-gateway" not in manifest["spec"]["gateways"]
    assert len(regexes(manifest)) == 1


def test_additional_domains_replace_knatives_own() -> None:
    settings = Settings(
        knative_domains=("example.com",),
        ingress=IngressSettings(additional_ingress_domains=("a.org", "example.com", "b c", "a.org")),
    )
    manifest = child(plan(service(), knative_service(), settings=settings), "VirtualService")
    assert manifest["spec"]["hosts"] == ["iris.ns.svc.cluster.local", "iris.ns.example.com", "iris.ns.a.org"]


def test_a_path_template_gives_paths_on_one_host() -> None:
    manifest = routed(path_template="/serving/{{ .Namespace }}/{{ .Name }}", ingress_domain="models.org")
    route = manifest["spec"]["http"][-1]
    assert [match["uri"] for match in route["match"]] == [
        {"prefix": "/serving/ns/iris/"},
        {"exact": "/serving/ns/iris"},
    ]
    assert route["rewrite"] == {"uri": "/"}
    assert manifest["spec"]["hosts"][-1] == "models.org"


@pytest.mark.parametrize("template", ["no/slash", "/a?b=c", "http://host/x"])
def test_a_path_template_that_gives_no_path_is_refused(template: str) -> None:
    with pytest.raises(UserError, match="pathTemplate"):
        path_of(service().metadata, template)


def test_requests_for_explanations_go_to_the_explainer_first() -> None:
    of = service(explainer=EXPLAINER)
    made = plan(of, knative_service(), knative_service("iris-explainer"))
    assert hosts_in(made) == ["iris-explainer.ns.svc.cluster.local", "iris-predictor.ns.svc.cluster.local"]
    pattern = child(made, "VirtualService")["spec"]["http"][0]["match"][0]["uri"]["regex"]
    assert re.search(pattern, "/v1/models/iris:explain")
    assert not re.search(pattern, "/v1/models/iris:predict")


def test_requests_enter_at_the_transformer() -> None:
    of = service(transformer=TRANSFORMER)
    assert hosts_in(plan(of, knative_service(), knative_service("iris-transformer"))) == [
        "iris-transformer.ns.svc.cluster.local"
    ]


def test_the_virtual_service_waits_for_every_component() -> None:
    made = plan(
        service(transformer=TRANSFORMER), knative_service(), knative_service("iris-transformer", ready="Unknown")
    )
    assert "VirtualService" not in [item.resource.kind for item in made.children]


def test_the_external_name_is_there_from_the_start() -> None:
    plain = [item.manifest for item in plan().children if item.resource.group == "" and item.resource.kind == "Service"]
    assert [item["spec"]["externalName"] for item in plain] == ["knative-local-gateway.istio-system.svc.cluster.local"]


def test_a_new_transformer_gets_requests_once_it_is_ready() -> None:
    before = settle(service(), knative_service(), virtual_service=virtual_service())
    of = service(transformer=TRANSFORMER).replace(status=before.status)
    waiting = plan(
        of, knative_service(), knative_service("iris-transformer", ready="Unknown"), virtual_service=virtual_service()
    )
    assert hosts_in(waiting) == ["iris-predictor.ns.svc.cluster.local"]
    done = plan(of, knative_service(), knative_service("iris-transformer"), virtual_service=virtual_service())
    assert hosts_in(done) == ["iris-transformer.ns.svc.cluster.local"]


def test_a_removed_transformer_gets_no_requests_and_no_child() -> None:
    made = plan(service(), knative_service(), virtual_service=virtual_service("iris-transformer"))
    assert hosts_in(made) == ["iris-predictor.ns.svc.cluster.local"]
    assert "iris-transformer" not in [item.manifest["metadata"]["name"] for item in made.children]


def test_the_route_stays_while_a_new_revision_is_not_ready() -> None:
    before = settle(service(), knative_service(), virtual_service=virtual_service())
    made = plan(before, knative_service(ready="Unknown"), virtual_service=virtual_service())
    assert hosts_in(made) == ["iris-predictor.ns.svc.cluster.local"]


def test_without_virtual_services_components_answer_under_their_own_names() -> None:
    settings = Settings(ingress=IngressSettings(disable_virtual_service=True))
    made = plan(service(), knative_service(), settings=settings)
    assert [item.resource.group for item in made.children] == ["serving.knative.dev"]
    assert made.status is not None
    assert made.status["url"] == "http://iris-predictor.ns.example.com"
    assert made.status["address"]["url"] == "http://iris-predictor.ns.svc.cluster.local"
