from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from controller.api.istio import Gateway, VirtualService
from onebox.istio.gateways import Binding, bind, filter_routes, gateway_servers
from onebox.istio.registry import Listener
from tests.onebox.istio.objects import (
    INGRESS_GATEWAY,
    LOCAL_GATEWAY,
    gateway,
    installed_gateways,
    route_to,
    virtual_service,
)


def bound(spec: Mapping[str, Any], *gateways: dict[str, Any]) -> Mapping[Listener, Binding]:
    known = [Gateway.parse(found) for found in gateways or installed_gateways()]
    servers = {f"{found.metadata.namespace}/{found.metadata.name}": gateway_servers(found) for found in known}
    return bind(VirtualService.parse(virtual_service("x", spec)), servers)


@pytest.mark.parametrize(
    ("gateways", "listeners"),
    [
        ([INGRESS_GATEWAY], {Listener.PUBLIC}),
        ([LOCAL_GATEWAY], {Listener.LOCAL}),
        ([INGRESS_GATEWAY, LOCAL_GATEWAY], {Listener.PUBLIC, Listener.LOCAL}),
        (["mesh"], {Listener.LOCAL}),
        ([], {Listener.LOCAL}),
        (["knative-serving/unknown"], set()),
        (["knative-ingress-gateway"], set()),
    ],
)
def test_gateways_decide_about_listeners(gateways: list[str], listeners: set[Listener]) -> None:
    assert bound({"hosts": ["a.example.com"], "gateways": gateways}).keys() == listeners


def test_a_gateway_without_namespace_is_one_of_the_own() -> None:
    found = bound({"hosts": ["a.example.com"], "gateways": ["mine"]}, gateway("mine", 80, namespace="golden"))
    assert found.keys() == {Listener.PUBLIC}


@pytest.mark.parametrize(
    ("allowed", "hosts", "taken"),
    [
        ("*", ["a.example.com"], ("a.example.com",)),
        ("*.example.com", ["a.example.com", "example.com", "a.other.com"], ("a.example.com",)),
        ("a.example.com", ["*.example.com"], ("a.example.com",)),
        ("golden/*", ["a.example.com"], ("a.example.com",)),
        ("other/*", ["a.example.com"], None),
        ("./*", ["a.example.com"], None),
        ("*/*.Example.com", ["A.example.com"], ("a.example.com",)),
        ("*.svc.cluster.local", ["short"], ("short.golden.svc.cluster.local",)),
    ],
)
def test_gateways_take_hosts_that_theirs_cover(allowed: str, hosts: list[str], taken: tuple[str, ...] | None) -> None:
    found = bound(
        {"hosts": hosts, "gateways": ["knative-serving/g"]},
        gateway("g", 80, hosts=[allowed]),
    )
    assert (found[Listener.PUBLIC].hosts if found else None) == taken


def test_ports_that_stand_for_no_listener_and_tls_are_not_served() -> None:
    assert gateway_servers(Gateway.parse(gateway("g", 15443))) == ()
    tls = gateway("g", 443)
    tls["spec"]["servers"][0]["port"]["protocol"] = "HTTPS"
    assert gateway_servers(Gateway.parse(tls)) == ()


@pytest.mark.parametrize(
    ("match", "kept"),
    [
        ({"gateways": [INGRESS_GATEWAY]}, True),
        ({"gateways": [LOCAL_GATEWAY, "mesh"]}, False),
        ({"port": 80}, True),
        ({"port": 8081}, False),
        ({"sourceLabels": {"app": "web"}}, False),
        ({"sourceLabels": {"istio": "ingressgateway"}}, True),
        ({"sourceNamespace": "web"}, False),
    ],
)
def test_routes_for_somewhere_else_are_left_out(match: dict[str, Any], kept: bool) -> None:
    spec = {"hosts": ["a.example.com"], "http": [route_to("a", match=[match])]}
    parsed = VirtualService.parse(virtual_service("x", spec))
    binding = bound({**spec, "gateways": [INGRESS_GATEWAY]})[Listener.PUBLIC]
    assert bool(filter_routes(parsed.spec.http, binding, "golden")) is kept


def test_of_several_matches_those_for_here_stay() -> None:
    matches = [{"gateways": [LOCAL_GATEWAY], "uri": {"exact": "/l"}}, {"uri": {"exact": "/p"}}]
    spec = {"hosts": ["a.example.com"], "http": [route_to("a", match=matches), route_to("b")]}
    binding = bound({**spec, "gateways": [INGRESS_GATEWAY]})[Listener.PUBLIC]
    first, second = filter_routes(VirtualService.parse(virtual_service("x", spec)).spec.http, binding, "golden")
    assert [match.uri.exact for match in first.match if match.uri] == ["/p"]
    assert second.match == []
