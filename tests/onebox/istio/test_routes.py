from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.istio import HttpRoute
from controller.base.errors import UserError
from onebox.istio.routes import build_all_routes, build_routes
from tests.onebox.istio.objects import destination_rule, revision_service, route_to, service
from tests.onebox.istio.registry import scope

A = "outbound|80||a.golden.svc.cluster.local"
B = "outbound|80||b.golden.svc.cluster.local"


def built(route: dict[str, Any], *services: dict[str, Any], **known: Any) -> dict[str, Any]:
    (found,) = build_routes(HttpRoute.parse(route), scope(*services, **known))
    return found


def shared(*shares: tuple[str, int], **fields: Any) -> dict[str, Any]:
    destinations = [{"destination": {"host": f"{name}.golden.svc.cluster.local"}, "weight": n} for name, n in shares]
    return {"route": destinations, **fields}


def test_the_timeout_is_always_written() -> None:
    assert built(route_to("a"))["route"]["timeout"] == "0s"
    assert built(route_to("a", timeout="1m0.5s"))["route"]["timeout"] == "60.5s"


def test_one_destination_is_a_cluster_and_its_headers_are_the_routes() -> None:
    route = route_to("a", headers={"request": {"set": {"x": "route"}}})
    route["route"][0]["headers"] = {"request": {"set": {"y": "destination"}}, "response": {"remove": ["server"]}}
    found = built(route)
    assert found["route"]["cluster"] == A
    assert [entry["header"]["key"] for entry in found["request_headers_to_add"]] == ["y", "x"]
    assert found["response_headers_to_remove"] == ["server"]


def test_shares_carry_their_own_headers_and_host() -> None:
    route = shared(("a", 80), ("b", 20))
    route["route"][1]["headers"] = {"request": {"set": {"Host": "inner", "k": "v"}}}
    first, second = built(route)["route"]["weighted_clusters"]["clusters"]
    assert first == {"name": A, "weight": 80}
    assert (second["weight"], second["host_rewrite_literal"]) == (20, "inner")
    assert [entry["header"]["key"] for entry in second["request_headers_to_add"]] == ["k"]


def test_a_share_of_nothing_is_left_out() -> None:
    assert built(shared(("a", 0), ("b", 100)))["route"]["cluster"] == B


@given(st.lists(st.integers(0, 100), min_size=2, max_size=6).filter(any))
def test_shares_add_up_to_what_was_asked_for(weights: list[int]) -> None:
    names = [f"s{number}" for number in range(len(weights))]
    action = built(shared(*zip(names, weights, strict=True)))["route"]
    if "cluster" in action:
        assert sum(map(bool, weights)) == 1
    else:
        assert sum(entry["weight"] for entry in action["weighted_clusters"]["clusters"]) == sum(weights)


@pytest.mark.parametrize(
    ("number", "ports", "expected"),
    [
        (8080, [80], 8080),
        (None, [9000], 9000),
        (None, [80, 443], 80),
        (None, [], 80),
    ],
)
def test_an_absent_port_is_the_only_one_or_the_gateways(number: int | None, ports: list[int], expected: int) -> None:
    route = route_to("a")
    if number:
        route["route"][0]["destination"]["port"] = {"number": number}
    known = [service("a", ports=[{"port": port, "name": f"p{port}"} for port in ports])]
    assert built(route, *known)["route"]["cluster"] == f"outbound|{expected}||a.golden.svc.cluster.local"


def test_short_names_mean_the_own_namespace() -> None:
    route = {"route": [{"destination": {"host": "a"}}]}
    assert built(route)["route"]["cluster"] == A


def test_rewrites_redirects_and_responses() -> None:
    regex = {"match": "^/a/(.*)", "rewrite": r"/\1"}
    assert built(route_to("a", rewrite={"uri": "/new"}))["route"]["prefix_rewrite"] == "/new"
    assert built(route_to("a", rewrite={"authority": "x"}))["route"]["host_rewrite_literal"] == "x"
    assert built(route_to("a", rewrite={"uriRegexRewrite": regex}))["route"]["regex_rewrite"] == {
        "pattern": {"regex": "^/a/(.*)"},
        "substitution": r"/\1",
    }
    assert built({"redirect": {"uri": "/x", "authority": "h", "port": 8443, "redirectCode": 302}})["redirect"] == {
        "response_code": "FOUND",
        "path_redirect": "/x",
        "host_redirect": "h",
        "port_redirect": 8443,
    }
    derived = {"uri": "%PREFIX()%/y", "derivePort": "FROM_REQUEST_PORT"}
    assert built({"redirect": derived})["redirect"] == {
        "response_code": "MOVED_PERMANENTLY",
        "prefix_rewrite": "/y",
        "port_redirect": 80,
    }
    assert built({"directResponse": {"status": 418, "body": {"string": "tea"}}})["direct_response"] == {
        "status": 418,
        "body": {"inline_string": "tea"},
    }


def test_setting_the_host_beats_rewriting_the_authority() -> None:
    route = route_to("a", rewrite={"authority": "x"}, headers={"request": {"set": {"host": "y", "z": ""}}})
    found = built(route)
    assert found["route"]["host_rewrite_literal"] == "y"
    assert found["request_headers_to_add"] == [
        {"header": {"key": "z", "value": ""}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "keep_empty_value": True}
    ]


def test_headers_that_envoy_does_not_let_go_stay() -> None:
    found = built(route_to("a", headers={"request": {"remove": ["Host", ":path", "x"]}}))
    assert found["request_headers_to_remove"] == ["x"]


def test_mirrors_keep_their_host_and_their_share() -> None:
    route = route_to("a", mirror={"host": "b.golden.svc.cluster.local"}, mirrorPercentage={"value": 0.5})
    (mirror,) = built(route)["route"]["request_mirror_policies"]
    assert mirror == {
        "cluster": B,
        "runtime_fraction": {"default_value": {"numerator": 5000, "denominator": "MILLION"}},
        "disable_shadow_host_suffix_append": True,
    }
    route["mirrorPercentage"] = {"value": 0}
    assert "request_mirror_policies" not in built(route)["route"]


def test_consistent_hashing_needs_a_policy_on_the_route() -> None:
    policy = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}}
    rule = destination_rule("a", {"host": "a.golden.svc.cluster.local", "trafficPolicy": policy})
    assert built(route_to("a"), rules=[rule])["route"]["hash_policy"] == [{"header": {"header_name": "x-user"}}]


def test_without_retries_istio_repeats_what_did_no_harm() -> None:
    policy = built(route_to("a"))["route"]["retry_policy"]
    assert policy["num_retries"] == 2
    assert "5xx" not in policy["retry_on"]


def test_switched_off_retries_are_off_except_for_revisions_that_never_saw_the_request() -> None:
    route = route_to("a", retries={})
    assert "retry_policy" not in built(route, service("a"))["route"]
    policy = built(route, revision_service("a"))["route"]["retry_policy"]
    assert policy["retry_on"] == "connect-failure,refused-stream,reset-before-request"
    mixed = shared(("a", 1), ("b", 1), retries={})
    assert "retry_policy" not in built(mixed, revision_service("a"), service("b"))["route"]


def test_numbers_among_retry_conditions_are_status_codes() -> None:
    retries = {"attempts": 3, "retryOn": "gateway-error,503, 429", "perTryTimeout": "0.3s", "backoff": "10ms"}
    policy = built(route_to("a", retries=retries))["route"]["retry_policy"]
    assert policy["retry_on"] == "gateway-error,retriable-status-codes"
    assert policy["retriable_status_codes"] == [503, 429]
    assert (policy["per_try_timeout"], policy["retry_back_off"]) == ("0.3s", {"base_interval": "0.01s"})


def test_nothing_comes_after_a_route_that_takes_everything() -> None:
    routes = [HttpRoute.parse(route_to(name)) for name in ("a", "b")]
    found = build_all_routes(routes, scope())
    assert len(found.routes) == 1
    assert found.catch_all
    assert {ref.name for ref in found.clusters} == {A}


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ({}, "http.route is empty"),
        (shared(("a", 0), ("b", 0)), "all of http.route.weight are 0"),
        (shared(("a", -1), ("b", 2)), "negative"),
        (route_to("a", timeout="5"), "timeout = '5'"),
        (route_to("a", timeout="-5s"), "must not be negative"),
        (route_to("a", retries={"attempts": 1, "perTryTimeout": "x"}), "retries.perTryTimeout"),
        ({"redirect": {"redirectCode": 200}}, "redirect.redirectCode = 200"),
        ({"directResponse": {"status": 99}}, "directResponse.status = 99"),
        ({"delegate": {"name": "x"}}, "delegate"),
        (route_to("a", fault={"abort": {"httpStatus": 99, "percentage": {"value": 1}}}), "fault.abort.httpStatus"),
        (route_to("a", fault={"abort": {"grpcStatus": "OOPS", "percentage": {"value": 1}}}), "fault.abort.grpcStatus"),
        (route_to("a", fault={"delay": {"fixedDelay": "1s", "percentage": {"value": 101}}}), "percentage.value = 101"),
    ],
)
def test_what_cannot_work_is_refused_by_field(route: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says.replace(".", r"\.")):
        built(route)
