"""Two hops as one: when, and that what a pod sees stays the same. (That it does on a real Envoy: test_serving.py.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from controller.api.istio import HttpRoute, VirtualService
from onebox.istio.collapse import collapse, complete_names, hop_host
from tests.onebox.istio.objects import (
    LOCAL_GATEWAY_HOST,
    knative_virtual_service,
    kserve_virtual_service,
    route_to,
    service,
)
from tests.onebox.istio.registry import Known

INNER = "m-predictor.golden.svc.cluster.local"


def hop(**fields: Any) -> dict[str, Any]:
    """A route through the local gateway to INNER."""
    headers = {"request": {"set": {"Host": INNER, "KServe-Isvc-Name": "m"}}}
    destination = {"host": LOCAL_GATEWAY_HOST, "port": {"number": 80}}
    return {"route": [{"destination": destination}], "headers": headers, **fields}


def collapsed(outer: dict[str, Any], inner: Sequence[dict[str, Any]]) -> list[HttpRoute]:
    known = Known(service("r1"), service("r2"), local={INNER: inner})
    return list(collapse([HttpRoute.parse(outer)], "golden", known))


def destinations(routes: Sequence[HttpRoute]) -> list[list[str]]:
    return [[entry.destination.host.split(".")[0] for entry in route.route] for route in routes]


def test_a_service_of_kserve_leads_to_its_revisions() -> None:
    knative = VirtualService.parse(knative_virtual_service("m-predictor", {"r1": 90, "r2": 10}))
    inner = [route.to_json() for route in knative.spec.http[:2]]
    (outer,) = VirtualService.parse(kserve_virtual_service("m")).spec.http
    probe, ordinary = collapsed(outer.to_json(), inner)
    assert destinations([probe, ordinary]) == [["r1", "r2"], ["r1", "r2"]]
    assert [entry.weight for entry in ordinary.route] == [90, 10]
    assert ordinary.route[0].headers.request.set["Knative-Serving-Revision"] == "r1"
    assert ordinary.headers.request.set == {"KServe-Isvc-Name": "m", "KServe-Isvc-Namespace": "golden"}
    assert ordinary.rewrite is not None
    assert ordinary.rewrite.authority == INNER
    assert ordinary.retries is not None
    assert ordinary.retries.attempts == 0
    assert all("k-network-hash" in match.headers for match in probe.match)
    assert [match.authority for match in ordinary.match] == [match.authority for match in outer.match]


def test_the_outer_match_still_decides() -> None:
    (found,) = collapsed(hop(match=[{"uri": {"prefix": "/v1"}}]), [route_to("r1")])
    assert [match.uri.prefix for match in found.match if match.uri] == ["/v1"]


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [("", "", ""), ("5s", "", "5s"), ("", "3s", "3s"), ("5s", "3s", "3s"), ("0s", "3s", "3s"), ("1m", "2h", "1m0s")],
)
def test_the_shorter_timeout_holds(outer: str, inner: str, expected: str) -> None:
    (found,) = collapsed(hop(timeout=outer), [route_to("r1", timeout=inner)])
    assert found.timeout == expected


def test_retries_that_the_outer_route_asks_for_cover_both() -> None:
    (asked,) = collapsed(hop(retries={"attempts": 3}), [route_to("r1", retries={})])
    (unasked,) = collapsed(hop(), [route_to("r1", retries={})])
    assert asked.retries is not None
    assert asked.retries.attempts == 3
    assert unasked.retries is not None
    assert unasked.retries.attempts == 0


def test_headers_that_the_outer_route_sets_decide_inner_matches() -> None:
    inner = [
        route_to("r1", match=[{"headers": {"kserve-isvc-name": {"exact": "other"}}}]),
        route_to("r2", match=[{"headers": {"kserve-isvc-name": {"exact": "m"}}}]),
        route_to("r1"),
    ]
    assert destinations(collapsed(hop(), inner)) == [["r2"]]


@pytest.mark.parametrize(
    "inner",
    [
        [],
        [route_to("r1", match=[{"uri": {"prefix": "/v1"}}]), route_to("r2")],
        [route_to("r1", match=[{"headers": {"x": {"exact": "1"}}}])],
        [route_to("r1", rewrite={"uri": "/"})],
        [route_to("r1", mirror={"host": "r2.golden.svc.cluster.local"})],
        [route_to("r1", fault={"abort": {"httpStatus": 500, "percentage": {"value": 1}}})],
        [route_to("r1", headers={"request": {"remove": ["KServe-Isvc-Name"]}})],
        [route_to("r1", headers={"request": {"set": {"Host": "x"}}})],
        [route_to("r1", match=[{"authority": {"exact": "somebody.else"}}])],
        [route_to("r1", match=[{"withoutHeaders": {"KServe-Isvc-Name": {}}}])],
        [{"redirect": {"uri": "/"}}],
        [{"directResponse": {"status": 200}}],
    ],
)
def test_what_does_not_combine_takes_both_hops(inner: list[dict[str, Any]]) -> None:
    (found,) = collapsed(hop(), inner)
    assert found == HttpRoute.parse(hop())


def test_the_same_header_in_both_matches_takes_both_hops() -> None:
    outer = hop(match=[{"headers": {"k-network-hash": {"exact": "x"}}}])
    inner = [route_to("r1", match=[{"headers": {"K-Network-Hash": {"exact": "override"}}}]), route_to("r1")]
    assert collapsed(outer, inner) == [HttpRoute.parse(outer)]


@pytest.mark.parametrize(
    ("route", "host"),
    [
        (hop(), INNER),
        (hop(headers={}, rewrite={"authority": f"{INNER}:80"}), INNER),
        (hop(headers={}), ""),
        (route_to("r1", headers={"request": {"set": {"Host": INNER}}}), ""),
        ({"redirect": {"uri": "/"}}, ""),
        ({"route": [*hop()["route"], *route_to("r1")["route"]]}, ""),
    ],
)
def test_a_hop_is_a_route_to_the_local_gateway_with_another_host(route: dict[str, Any], host: str) -> None:
    assert hop_host(HttpRoute.parse(route), "golden", Known(service("r1"))) == host


def test_names_mean_the_same_in_every_namespace() -> None:
    (found,) = complete_names(
        [HttpRoute.parse({"route": [{"destination": {"host": "r1"}}]})], "golden", Known(service("r1")), gateway_port=80
    )
    assert found.route[0].destination.to_json() == {
        "host": "r1.golden.svc.cluster.local",
        "subset": "",
        "port": {"number": 80},
    }
