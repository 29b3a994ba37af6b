"""The incremental translation says at each moment what a new one would say that sees the same objects."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.base.json import JsonObject
from onebox.istio.endpoint_files import EndpointFiles
from onebox.istio.registry import Listener
from onebox.istio.translation import Desired, Translation
from tests.onebox.istio.objects import (
    INGRESS_GATEWAY,
    LOCAL_GATEWAY,
    destination_rule,
    endpoints,
    gateway,
    installed_gateways,
    knative_virtual_service,
    kserve_virtual_service,
    local_gateway_service,
    revision_service,
    route_to,
    service,
    virtual_service,
)

PORTS = {Listener.PUBLIC: 8080, Listener.LOCAL: 8081}
A = "outbound|80||a.golden.svc.cluster.local"

State = dict[tuple[str, str], JsonObject]


def empty(room: int = 100) -> Translation:
    return Translation(PORTS, EndpointFiles(Path("/eds"), room))


def feed(translation: Translation, kind: str, *objects: JsonObject) -> None:
    setter = getattr(translation, f"set_{kind}")
    for obj in objects:
        setter((obj["metadata"]["namespace"], obj["metadata"]["name"]), obj)


def installed(room: int = 100) -> Translation:
    translation = empty(room)
    feed(translation, "gateway", *installed_gateways())
    feed(translation, "service", local_gateway_service())
    return translation


def hosts(desired: Desired, listener: Listener = Listener.PUBLIC) -> dict[str, Any]:
    return {name: orjson.loads(content) for name, content in desired.virtual_hosts[listener].items()}


def paths(desired: Desired, name: str) -> list[str]:
    return [route["match"].get("path", "any") for route in hosts(desired)[name]["routes"]]


def simple(name: str, host: str, *routes: JsonObject, **fields: Any) -> JsonObject:
    return virtual_service(name, {"hosts": [host], "http": list(routes or [route_to("a")])}, **fields)


# One thing at a time.


def test_what_names_a_cluster_makes_it_and_the_service_fills_it() -> None:
    translation = installed()
    feed(translation, "virtual_service", simple("x", "x.example.com"))
    assert translation.render().clusters == {}
    feed(translation, "service", service("a"))
    assert not translation.render().offers[0].complete
    feed(translation, "endpoints", endpoints("a", [1234]))
    desired = translation.render()
    assert list(desired.clusters) == list(desired.endpoints) == [A]
    assert desired.offers[0].complete
    translation.confirmed(desired.offers[0].version)
    assert translation.render().offers == ()
    translation.set_virtual_service(("golden", "x"), None)
    desired = translation.render()
    assert (desired.clusters, desired.endpoints, hosts(desired)) == ({}, {}, {})


def test_new_endpoints_change_one_file_and_no_table() -> None:
    translation = installed()
    feed(translation, "virtual_service", simple("x", "x.example.com"))
    feed(translation, "service", service("a"), service("b"))
    feed(translation, "endpoints", endpoints("a", [1]))
    translation.confirmed(translation.render().offers[0].version)
    feed(translation, "endpoints", endpoints("a", [2]), endpoints("b", [3]))
    assert not translation.is_stale()
    assert list(translation.clusters.take_endpoints()) == [A]
    assert translation.clusters.take_endpoints() == {}


def test_a_write_that_changes_nothing_is_nothing() -> None:
    translation = installed()
    feed(translation, "virtual_service", simple("x", "x.example.com"))
    feed(translation, "service", service("a"))
    feed(translation, "endpoints", endpoints("a", [1]))
    translation.confirmed(translation.render().offers[0].version)
    feed(translation, "virtual_service", simple("x", "x.example.com", labels={"new": "label"}))
    feed(translation, "service", service("a"))
    feed(translation, "endpoints", endpoints("a", [1]))
    feed(translation, "gateway", *installed_gateways())
    assert not translation.is_stale()
    assert translation.clusters.take_endpoints() == {}


def test_beyond_the_room_clusters_carry_their_endpoints() -> None:
    translation = installed(room=1)
    feed(translation, "virtual_service", simple("x", "x.example.com", route_to("a")))
    feed(translation, "virtual_service", simple("y", "y.example.com", route_to("b")))
    feed(translation, "service", service("a"), service("b"))
    desired = translation.render()
    types = {name: orjson.loads(content)["type"] for name, content in desired.clusters.items()}
    assert sorted(types.values()) == ["EDS", "STATIC"]
    feed(translation, "endpoints", endpoints("b", [7]))
    assert translation.clusters.take_endpoints() == {}
    assert b'port_value":7' in translation.render().clusters[A.replace("||a.", "||b.")]
    translation.set_virtual_service(("golden", "x"), None)
    translation.render()
    feed(translation, "virtual_service", simple("z", "z.example.com", route_to("a")))
    assert orjson.loads(translation.render().clusters[A])["type"] == "EDS"


def test_files_can_be_given_up() -> None:
    translation = installed()
    feed(translation, "virtual_service", simple("x", "x.example.com"))
    feed(translation, "service", service("a"))
    feed(translation, "endpoints", endpoints("a", [1]))
    translation.render()
    assert translation.clusters.give_up_files()
    desired = translation.render()
    assert (list(desired.clusters), desired.endpoints) == ([A], {})
    assert not translation.clusters.give_up_files()


def test_what_cannot_be_translated_leaves_what_was_there() -> None:
    translation = installed()
    feed(translation, "virtual_service", simple("x", "x.example.com", generation=1))
    before = translation.render()
    feed(translation, "virtual_service", simple("x", "x.example.com", route_to("b", timeout="soon"), generation=2))
    after = translation.render()
    assert after.virtual_hosts == before.virtual_hosts
    (finding,) = after.findings
    assert (finding.version.generation, finding.reason, finding.refused) == (2, "InvalidDuration", True)
    assert not after.offers[0].complete
    feed(translation, "virtual_service", simple("x", "x.example.com", route_to("b"), generation=3))
    repaired = translation.render()
    assert repaired.findings == ()
    assert "||b." in hosts(repaired)["golden/x"]["routes"][0]["route"]["cluster"]


def test_a_field_of_the_wrong_type_is_named() -> None:
    translation = installed()
    feed(translation, "virtual_service", virtual_service("x", {"hosts": "all", "http": []}))
    (finding,) = translation.render().findings
    assert finding.message.startswith("spec.hosts: ")


def test_the_older_of_two_is_asked_first_and_the_younger_told() -> None:
    translation = installed()
    young = simple("young", "x.example.com", route_to("a", match=[{"uri": {"exact": "/y"}}]), creationTimestamp="2")
    old = simple(
        "old", "x.example.com", route_to("b", match=[{"uri": {"exact": "/o"}}]), route_to("b"), creationTimestamp="1"
    )
    feed(translation, "virtual_service", young, old)
    desired = translation.render()
    assert paths(desired, "golden/old+golden/young") == ["/o", "/y", "any"]
    (finding,) = desired.findings
    assert (finding.version.name, finding.reason, finding.refused) == ("young", "HostShared", False)


def test_an_inferenceservice_follows_the_revisions_of_its_predictor() -> None:
    translation = installed()
    feed(translation, "service", revision_service("p-1"), revision_service("p-2"))
    feed(translation, "virtual_service", kserve_virtual_service("m"))
    hop = hosts(translation.render())["golden/m"]["routes"][0]["route"]["cluster"]
    assert hop == "outbound|80||knative-local-gateway.istio-system.svc.cluster.local"
    for generation, revision in ((1, "p-1"), (2, "p-2")):
        feed(
            translation,
            "virtual_service",
            knative_virtual_service("m-predictor", {revision: 100}, generation=generation),
        )
        routes = hosts(translation.render())["golden/m"]["routes"]
        assert {route["route"]["cluster"] for route in routes} == {f"outbound|80||{revision}.golden.svc.cluster.local"}
    translation.set_virtual_service(("golden", "m-predictor-ingress"), None)
    assert hosts(translation.render())["golden/m"]["routes"][0]["route"]["cluster"] == hop


def test_local_names_are_not_served_in_public() -> None:
    translation = installed()
    feed(
        translation, "virtual_service", kserve_virtual_service("m"), knative_virtual_service("m-predictor", {"r": 100})
    )
    desired = translation.render()
    public = [domain for host in hosts(desired).values() for domain in host["domains"]]
    assert sorted(public) == ["m-predictor.golden.example.com", "m.golden.example.com"]
    local = [domain for host in hosts(desired, Listener.LOCAL).values() for domain in host["domains"]]
    assert "m.golden.svc.cluster.local" in local
    assert "m.golden.example.com" not in local


def test_an_external_name_leads_on() -> None:
    translation = installed()
    alias = service("alias", type="ExternalName", externalName="a.golden.svc.cluster.local")
    outside = service("outside", type="ExternalName", externalName="api.example.com", ports=[])
    loop = service("loop", type="ExternalName", externalName="loop.golden.svc.cluster.local")
    feed(translation, "service", alias, outside, loop, service("a"))
    feed(translation, "endpoints", endpoints("a", [1]))
    for name in ("alias", "outside", "loop"):
        feed(translation, "virtual_service", simple(name, f"{name}.example.com", route_to(name)))
    desired = translation.render()
    types = {name.split("|")[3].split(".")[0]: orjson.loads(found)["type"] for name, found in desired.clusters.items()}
    assert types == {"alias": "EDS", "outside": "LOGICAL_DNS"}
    feed(translation, "endpoints", endpoints("a", [2]))
    (changed,) = translation.clusters.take_endpoints().values()
    assert b'"port_value":2' in changed


def test_a_rule_reaches_what_it_is_about() -> None:
    translation = installed()
    feed(translation, "service", service("v"))
    feed(translation, "endpoints", endpoints("v", [1, 2]))
    to_subset = {"route": [{"destination": {"host": "v.golden.svc.cluster.local", "subset": "one"}}]}
    feed(translation, "virtual_service", simple("x", "x.example.com", to_subset))
    assert translation.render().clusters == {}
    translation.set_pod(("golden", "v-0"), {"version": "one"})
    subset = {"name": "one", "labels": {"version": "one"}}
    feed(translation, "rule", destination_rule("v", {"host": "*.golden.svc.cluster.local", "subsets": [subset]}))
    ((name, content),) = translation.render().endpoints.items()
    assert name == "outbound|80|one|v.golden.svc.cluster.local"
    assert content.count(b"port_value") == 1
    translation.set_pod(("golden", "v-1"), {"version": "one"})
    assert translation.clusters.take_endpoints()[name].count(b"port_value") == 2
    translation.set_rule(("golden", "v"), None)
    assert translation.render().clusters == {}


def test_a_bad_rule_is_left_out_and_told() -> None:
    translation = installed()
    feed(translation, "service", service("a"))
    feed(translation, "virtual_service", simple("x", "x.example.com"))
    pool = {"tcp": {"connectTimeout": "soon"}}
    rule = {"host": "a.golden.svc.cluster.local", "trafficPolicy": {"connectionPool": pool}}
    feed(translation, "rule", destination_rule("a", rule))
    desired = translation.render()
    assert list(desired.clusters) == [A]
    assert [finding.reason for finding in desired.findings] == ["InvalidDestinationRule"]


# Any sequence of changes.

names = st.sampled_from(["x", "y", "z"])
destinations = st.sampled_from(["a", "b", "c"])


def some_route(to: str, path: str, host: str) -> JsonObject:
    fields: JsonObject = {}
    if path:
        fields["match"] = [{"uri": {"exact": path}}]
    if host:
        fields["headers"] = {"request": {"set": {"Host": host}}}
    return route_to(to, **fields)


routes = st.builds(some_route, destinations, st.sampled_from(["", "/1", "/2"]), st.sampled_from(["", "inner"]))
plain = st.builds(
    lambda name, hosts_, http, gateways, created: virtual_service(
        name, {"hosts": hosts_, "http": http}, gateways=gateways, creationTimestamp=created
    ),
    names,
    st.lists(st.sampled_from(["h.example.com", "i.example.com", "*.example.com"]), min_size=1, max_size=2, unique=True),
    st.lists(routes, min_size=1, max_size=3),
    st.lists(st.sampled_from([INGRESS_GATEWAY, LOCAL_GATEWAY, "golden/other", "mesh"]), max_size=2, unique=True),
    st.sampled_from(["1", "2"]),
)
knative = st.builds(lambda name, to: knative_virtual_service(f"{name}-predictor", {to: 100}), names, destinations)
kserve = st.builds(lambda name: kserve_virtual_service(name), names)
rules = st.builds(
    lambda to, balancer: destination_rule(
        to, {"host": f"{to}.golden.svc.cluster.local", "trafficPolicy": {"loadBalancer": balancer}}
    ),
    destinations,
    st.sampled_from([{"simple": "RANDOM"}, {"consistentHash": {"httpHeaderName": "x"}}]),
)
KINDS: Mapping[str, st.SearchStrategy[JsonObject]] = {
    "virtual_service": st.one_of(plain, knative, kserve),
    "service": st.builds(
        lambda to, port: service(to, ports=[{"name": "http", "port": port}]), destinations, st.integers(80, 81)
    ),
    "endpoints": st.builds(
        lambda to, ports: endpoints(to, ports), destinations, st.lists(st.integers(1, 3), max_size=2)
    ),
    "rule": rules,
    "gateway": st.builds(lambda port: gateway("other", port, namespace="golden"), st.sampled_from([80, 8081])),
}
changes = st.sampled_from(sorted(KINDS)).flatmap(
    lambda kind: st.tuples(st.just(kind), KINDS[kind], st.sampled_from(["set", "set", "set", "drop", "render"]))
)


def from_scratch(state: State, shuffle: Callable[[list[Any]], None]) -> Translation:
    translation = installed()
    entries = list(state.items())
    shuffle(entries)
    for (kind, _), obj in entries:
        feed(translation, kind, obj)
    return translation


def without_offers(desired: Desired) -> Desired:
    return replace(desired, offers=(), findings=tuple(sorted(desired.findings, key=str)))


@settings(deadline=None, max_examples=150)
@given(st.lists(changes, max_size=25), st.integers(0, 5))
def test_any_sequence_of_changes_ends_where_a_fresh_start_does(
    steps: list[tuple[str, JsonObject, str]], seed: int
) -> None:
    translation, state = installed(), State()
    for kind, obj, what in steps:
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        if what == "render":
            translation.render()
            translation.clusters.take_endpoints()
        if what == "drop":
            state.pop((kind, "/".join(key)), None)
            getattr(translation, f"set_{kind}")(key, None)
        else:
            state[(kind, "/".join(key))] = obj
            feed(translation, kind, obj)
    fresh = from_scratch(state, random.Random(seed).shuffle)
    assert without_offers(translation.render()) == without_offers(fresh.render())
    rendered = translation.render()
    assert rendered == translation.render()
    domains = [domain for host in hosts(rendered).values() for domain in host["domains"]]
    assert len(domains) == len(set(domains))
