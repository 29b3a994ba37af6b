"""The rules for names and routes that KServe keeps in Knative mode (spec/kserve.md 2.7), one test for each.

What follows from them for changes, ports and patterns is in test_ingress.py.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from controller.inferenceservice.config import IngressSettings, Settings
from controller.reconcile.plan import Plan
from tests.controller.inferenceservice.builders import (
    child,
    conditions,
    knative_service,
    plan,
    service,
    virtual_service,
)

EXPLAINER = {"containers": [{"name": "kserve-container", "image": "e"}]}
TRANSFORMER = {"containers": [{"name": "kserve-container", "image": "t"}]}
CLUSTER_LOCAL = {"labels": {"networking.knative.dev/visibility": "cluster-local"}}
OUTSIDE, INSIDE = "a/outside", "a/inside"


def made(*parts: str, settings: Settings | None = None, meta: dict[str, Any] | None = None, url: str = "") -> Plan:
    """The plan for a service with these components, all ready."""
    spec = {"transformer": TRANSFORMER, "explainer": EXPLAINER}
    of = service(meta=meta, **{part: spec[part] for part in parts})
    live = [knative_service(f"iris-{part}") for part in parts]
    predictor = knative_service(url=url or None)
    return plan(of, predictor, *live, settings=settings or Settings(), virtual_service=virtual_service())


def routes(of: Plan) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = child(of, "VirtualService")["spec"]["http"]
    return found


def spec(of: Plan) -> dict[str, Any]:
    found: dict[str, Any] = child(of, "VirtualService")["spec"]
    return found


def with_ingress(**ingress: Any) -> Settings:
    return Settings(ingress=IngressSettings(**ingress), knative_domains=("example.com",))


GATEWAYS = with_ingress(ingress_gateway=OUTSIDE, local_gateway=INSIDE)


def test_gateways_are_the_local_one_the_mesh_and_the_one_outside() -> None:
    assert spec(made(settings=GATEWAYS))["gateways"] == [INSIDE, "mesh", OUTSIDE]


@pytest.mark.parametrize("how", ["label", "url"])
def test_a_service_is_internal_by_its_label_or_because_knative_gives_it_no_other_name(how: str) -> None:
    local = "http://iris-predictor.ns.svc.cluster.local"
    of = made(settings=GATEWAYS, **({"meta": CLUSTER_LOCAL} if how == "label" else {"url": local}))
    assert spec(of)["gateways"] == [INSIDE, "mesh"]
    assert spec(of)["hosts"] == ["iris.ns.svc.cluster.local"]


def test_hosts_are_the_internal_one_the_one_outside_the_additional_ones_and_that_of_paths() -> None:
    settings = with_ingress(
        additional_ingress_domains=("more.org",), path_template="/s/{{ .Name }}", ingress_domain="models.org"
    )
    assert spec(made(settings=settings))["hosts"] == [
        "iris.ns.svc.cluster.local",
        "iris.ns.example.com",
        "iris.ns.more.org",
        "models.org",
    ]


def test_labels_are_the_services_and_annotations_those_that_are_allowed() -> None:
    given = {"labels": {"team": "a"}, "annotations": {"note": "x", "autoscaling.knative.dev/min-scale": "3"}}
    found = child(made(meta=given), "VirtualService")["metadata"]
    assert found["labels"] == {"team": "a"}
    assert found["annotations"] == {"note": "x"}


def test_explanations_come_first_and_everything_else_last() -> None:
    first, last = routes(made("explainer"))
    assert first["match"][0]["uri"] == {"regex": r"^/v1/models/[\w-]+:explain$"}
    assert first["headers"]["request"]["set"]["Host"] == "iris-explainer.ns.svc.cluster.local"
    assert all("uri" not in match for match in last["match"])
    assert last["headers"]["request"]["set"]["Host"] == "iris-predictor.ns.svc.cluster.local"


def test_everything_else_goes_to_the_transformer_where_there_is_one() -> None:
    (route,) = routes(made("transformer"))
    assert route["headers"]["request"]["set"]["Host"] == "iris-transformer.ns.svc.cluster.local"


def test_below_a_path_explanations_and_everything_else_lose_the_path_on_the_way() -> None:
    settings = with_ingress(path_template="/s/{{ .Name }}", ingress_domain="models.org", ingress_gateway=OUTSIDE)
    *_, explain, rest = routes(made("explainer", settings=settings))
    pattern = r"^/s/iris(/v1/models/[\w-]+:explain)$"
    assert [match["uri"] for match in explain["match"]] == [{"regex": pattern}]
    assert explain["rewrite"] == {"uriRegexRewrite": {"match": pattern, "rewrite": r"\1"}}
    assert re.sub(pattern, r"\1", "/s/iris/v1/models/iris:explain") == "/v1/models/iris:explain"
    assert [match["uri"] for match in rest["match"]] == [{"prefix": "/s/iris/"}, {"exact": "/s/iris"}]
    assert rest["rewrite"] == {"uri": "/"}
    for match in (*explain["match"], *rest["match"]):
        assert match["gateways"] == [OUTSIDE]
        assert re.fullmatch(match["authority"]["regex"], "models.org:8080")


def test_each_route_matches_the_internal_host_inside_and_every_other_host_outside() -> None:
    settings = with_ingress(ingress_gateway=OUTSIDE, local_gateway=INSIDE, additional_ingress_domains=("more.org",))
    for route in routes(made("explainer", settings=settings)):
        inside, *outside = route["match"]
        assert inside["gateways"] == [INSIDE, "mesh"]
        assert re.fullmatch(inside["authority"]["regex"], "iris.ns.svc.cluster.local")
        assert [match["gateways"] for match in outside] == [[OUTSIDE], [OUTSIDE]]
        hosts = ("iris.ns.example.com", "iris.ns.more.org")
        for match, host in zip(outside, hosts, strict=True):
            assert re.fullmatch(match["authority"]["regex"], host)


def test_a_host_matches_with_and_without_a_port_of_five_digits_at_most() -> None:
    (route,) = routes(made())
    pattern = route["match"][1]["authority"]["regex"]
    assert pattern == r"^iris\.ns\.example\.com(?::\d{1,5})?$"


def test_requests_go_to_knatives_local_gateway_with_the_components_host_and_the_services_name() -> None:
    settings = with_ingress(knative_local_gateway_service="knative.local", local_gateway_service="kserve.local")
    of = made(settings=settings)
    (route,) = routes(of)
    assert route["route"] == [{"destination": {"host": "knative.local", "port": {"number": 80}}, "weight": 100}]
    assert route["headers"]["request"]["set"] == {
        "Host": "iris-predictor.ns.svc.cluster.local",
        "KServe-Isvc-Name": "iris",
        "KServe-Isvc-Namespace": "ns",
    }


def test_the_services_cluster_name_leads_to_the_local_gateway() -> None:
    plain = [item.manifest for item in made(settings=with_ingress(local_gateway_service="kserve.local")).children]
    (external,) = [item for item in plain if item["apiVersion"] == "v1"]
    assert external["metadata"]["name"] == "iris"
    assert external["spec"] == {"type": "ExternalName", "externalName": "kserve.local", "sessionAffinity": "None"}


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        ("predictor", "Predictor ingress not created"),
        ("transformer", "Transformer ingress not created"),
        ("explainer", "Explainer ingress not created"),
    ],
)
def test_the_virtual_service_waits_for_each_component_and_says_for_which(waiting: str, reason: str) -> None:
    of = service(transformer=TRANSFORMER, explainer=EXPLAINER)
    live = [
        knative_service(f"iris-{part}", ready="Unknown" if part == waiting else "True")
        for part in ("predictor", "transformer", "explainer")
    ]
    waits = plan(of, *live)
    assert "VirtualService" not in [item.resource.kind for item in waits.children]
    assert conditions(waits)["IngressReady"] == ("Unknown", reason)


def test_without_istio_hosts_nothing_is_made_and_urls_keep_the_components_name() -> None:
    of = made(settings=with_ingress(disable_virtual_service=True))
    assert [item.resource.group for item in of.children] == ["serving.knative.dev"]
    assert of.status is not None
    assert of.status["url"] == "http://iris-predictor.ns.example.com"


def test_the_url_has_the_scheme_and_the_address_is_inside() -> None:
    of = made(settings=with_ingress(url_scheme="https"))
    assert of.status is not None
    assert of.status["url"] == "https://iris.ns.example.com"
    assert of.status["address"]["url"] == "http://iris.ns.svc.cluster.local"
    assert conditions(of)["IngressReady"][0] == "True"


def test_with_a_path_template_the_url_is_the_path_on_the_common_host() -> None:
    template = "/serving/{{ .Namespace }}/{{ .Name }}"
    of = made(settings=with_ingress(path_template=template, ingress_domain="models.org", url_scheme="https"))
    assert of.status is not None
    assert of.status["url"] == "https://models.org/serving/ns/iris"
