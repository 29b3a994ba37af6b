from __future__ import annotations

from typing import Any

import pytest

from controller.api.istio import HttpMatch, HttpRoute
from controller.base.errors import UserError
from onebox.istio.matches import build_match, build_matches, is_catch_all


@pytest.mark.parametrize(
    ("match", "built"),
    [
        ({}, {"prefix": "/"}),
        ({"uri": {"exact": "/a"}}, {"path": "/a"}),
        ({"uri": {"prefix": "/a"}}, {"prefix": "/a"}),
        ({"uri": {"prefix": ""}}, {"prefix": "/"}),
        ({"uri": {"regex": "/v[12]/.*"}}, {"safe_regex": {"regex": "/v[12]/.*"}}),
        ({"uri": {"prefix": "/a"}, "ignoreUriCase": True}, {"prefix": "/a", "case_sensitive": False}),
        (
            {"headers": {"X-Team": {"exact": "a"}}},
            {"prefix": "/", "headers": [{"name": "x-team", "string_match": {"exact": "a"}}]},
        ),
        ({"headers": {"x": {}}}, {"prefix": "/", "headers": [{"name": "x", "present_match": True}]}),
        (
            {"withoutHeaders": {"x": {}}},
            {"prefix": "/", "headers": [{"name": "x", "present_match": True, "invert_match": True}]},
        ),
        (
            {"method": {"exact": "GET"}, "authority": {"prefix": "a"}, "scheme": {"regex": "http.*"}},
            {
                "prefix": "/",
                "headers": [
                    {"name": ":method", "string_match": {"exact": "GET"}},
                    {"name": ":authority", "string_match": {"prefix": "a"}},
                    {"name": ":scheme", "string_match": {"safe_regex": {"regex": "http.*"}}},
                ],
            },
        ),
        (
            {"queryParams": {"q": {"regex": r"\d+"}, "p": {}}},
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "p", "present_match": True},
                    {"name": "q", "string_match": {"safe_regex": {"regex": r"\d+"}}},
                ],
            },
        ),
    ],
)
def test_each_condition_has_its_field(match: dict[str, Any], built: dict[str, Any]) -> None:
    assert build_match(HttpMatch.parse(match)) == built


def test_an_absent_header_fulfils_a_condition_that_it_must_not_have_a_value() -> None:
    built = build_match(HttpMatch.parse({"withoutHeaders": {"x": {"exact": "no"}}}))
    assert built["headers"] == [
        {"name": "x", "string_match": {"exact": "no"}, "invert_match": True, "treat_missing_header_as_empty": True}
    ]


def test_a_route_without_matches_takes_everything() -> None:
    assert build_matches(HttpRoute.parse({})) == [{"prefix": "/"}]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"uri": {"prefix": "/"}}, True),
        ({"uri": {"regex": ".*"}}, True),
        ({"uri": {"exact": "/"}}, False),
        ({"headers": {"x": {}}}, False),
        ({"authority": {"prefix": "a"}}, False),
        ({"queryParams": {"x": {}}}, False),
    ],
)
def test_catch_alls_are_recognised(match: dict[str, Any], expected: bool) -> None:
    assert is_catch_all(HttpMatch.parse(match)) is expected


@pytest.mark.parametrize("match", [{"uri": {"regex": ""}}, {"headers": {"@request.auth.claims.sub": {"exact": "me"}}}])
def test_conditions_that_cannot_work_are_refused(match: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        build_match(HttpMatch.parse(match))
