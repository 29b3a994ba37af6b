from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.istio import HttpMatch, HttpRoute, StringMatch
from onebox.istio.authority import drop_known_authorities, holds_for_host, is_known_regex, reachable_hosts

HOST = "m.default.localhost"
KSERVE = r"^m\.default\.localhost(?::\d{1,5})?$"


@pytest.mark.parametrize(
    ("wanted", "host", "expected"),
    [
        ({"prefix": HOST}, HOST, True),
        ({"prefix": "m.default"}, HOST, True),
        ({"prefix": "other"}, HOST, False),
        ({"prefix": f"{HOST}:80"}, HOST, None),
        ({"prefix": f"{HOST}:9999"}, HOST, None),
        ({"exact": HOST}, HOST, None),
        ({"exact": f"{HOST}:9999"}, HOST, None),
        ({"exact": "other"}, HOST, False),
        ({"regex": KSERVE}, HOST, True),
        ({"regex": KSERVE}, "other", False),
        ({"regex": r"m\.default\.localhost"}, HOST, None),
        ({"regex": ".*"}, HOST, None),
        ({"regex": "("}, HOST, None),
        ({}, HOST, True),
        ({"prefix": "m"}, "*.default.localhost", None),
    ],
)
def test_what_a_host_says_about_a_match(wanted: dict[str, Any], host: str, expected: bool | None) -> None:
    assert holds_for_host(StringMatch.parse(wanted), host) is expected


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(a?){30}a{30}", "(a{2,})b"])
def test_patterns_that_can_take_for_ever_are_left_to_envoy(pattern: str) -> None:
    assert is_known_regex(pattern, "a" * 60) is None


pieces = st.sampled_from(["a", "b-", r"\.", "^", "$", "(", ")", "?", r"(?::\d{1,5})?", r"\d", "."])


@given(st.lists(pieces, max_size=6).map("".join), st.text("ab-.:1", max_size=8))
def test_what_is_said_about_a_pattern_is_what_its_engine_says(pattern: str, value: str) -> None:
    verdict = is_known_regex(pattern, value)
    if verdict is not None:
        assert verdict is (re.fullmatch(pattern, value) is not None)


def test_hosts_that_no_route_takes_are_not_claimed() -> None:
    routes = [HttpRoute.parse({"match": [{"authority": {"regex": KSERVE}}]})]
    assert reachable_hosts(routes, [HOST, "m.default.svc.cluster.local"]) == (HOST,)
    assert reachable_hosts([HttpRoute.parse({})], [HOST, "x"]) == (HOST, "x")
    assert reachable_hosts([], [HOST]) == ()


def test_known_authorities_are_not_asked_again() -> None:
    route = HttpRoute.parse(
        {"match": [{"authority": {"prefix": "m"}, "uri": {"exact": "/a"}}, {"authority": {"prefix": "n"}}]}
    )
    (found,) = drop_known_authorities([route], ["m.a", "m.b"])
    assert found.match == [HttpMatch.parse({"authority": None, "uri": {"exact": "/a"}})]
    (kept,) = drop_known_authorities([route], ["m.a", "n.a"])
    assert len(kept.match) == 2
    assert all(match.authority is not None for match in kept.match)
    assert drop_known_authorities([route], ["other"]) == ()
