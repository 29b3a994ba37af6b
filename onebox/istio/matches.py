"""HttpMatch as Envoy's RouteMatch (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.api.istio import HttpMatch, HttpRoute, StringMatch
from controller.base.errors import UserError
from onebox.istio.xds import Message

ANY_PATH = "/"
_CLAIMS_PREFIX = "@"
"""Header names that mean claims of a token (`@request.auth.claims`), which nobody here puts there."""


def build_matches(route: HttpRoute) -> list[Message]:
    """One RouteMatch for each alternative of the route; without any, the one that takes every request."""
    return [build_match(match) for match in route.match] or [{"prefix": ANY_PATH}]


def build_match(match: HttpMatch) -> Message:
    """The RouteMatch that holds where all of `match` holds; who asks on which gateway is decided before."""
    built = _path(match)
    headers = list(_headers(match))
    if headers:
        built["headers"] = headers
    if match.queryParams:
        built["query_parameters"] = [
            {"name": name, **_value("string_match", wanted)} for name, wanted in sorted(match.queryParams.items())
        ]
    return built


def is_catch_all(match: HttpMatch) -> bool:
    """Whether every request matches."""
    uri = match.uri
    any_path = uri is None or uri.prefix == ANY_PATH or uri.regex in (".*", "/.*") or is_presence(uri)
    others = (match.scheme, match.method, match.authority, match.headers, match.withoutHeaders, match.queryParams)
    return any_path and not any(others)


def is_presence(wanted: StringMatch) -> bool:
    """Whether all that is asked is that a value is there."""
    return wanted.exact is None and wanted.prefix is None and wanted.regex is None


def build_string_match(wanted: StringMatch) -> Message:
    """Envoy's StringMatcher; a regular expression has to match the whole value, as everywhere in Istio."""
    if wanted.exact is not None:
        return {"exact": wanted.exact}
    if wanted.regex is not None:
        return {"safe_regex": _regex(wanted.regex)}
    return {"prefix": wanted.prefix} if wanted.prefix else _anything()


def _anything() -> Message:
    return {"safe_regex": {"regex": ".*"}}  # Envoy refuses an empty prefix.


def _regex(text: str) -> Message:
    if not text:
        raise UserError("InvalidMatch", "a regular expression is empty, must have at least one character")
    return {"regex": text}


def _path(match: HttpMatch) -> Message:
    uri = match.uri
    if uri is None or is_presence(uri):
        return {"prefix": ANY_PATH}
    if uri.regex is not None:
        return {"safe_regex": _regex(uri.regex)}
    path: Message = {"path": uri.exact} if uri.exact is not None else {"prefix": uri.prefix or ANY_PATH}
    if match.ignoreUriCase:
        path["case_sensitive"] = False
    return path


def _headers(match: HttpMatch) -> Iterator[Message]:
    pseudo: Mapping[str, StringMatch | None] = {
        ":method": match.method,
        ":authority": match.authority,
        ":scheme": match.scheme,
    }
    for name, wanted in pseudo.items():
        if wanted is not None:
            yield {"name": name, **_value("string_match", wanted)}
    for name, wanted in sorted(match.headers.items()):
        yield {"name": _header_name(name), **_value("string_match", wanted)}
    for name, wanted in sorted(match.withoutHeaders.items()):
        unwanted = {"name": _header_name(name), **_value("string_match", wanted), "invert_match": True}
        if not is_presence(wanted):
            # Without this Envoy takes an absent header for one that does not match, inverted or not.
            unwanted["treat_missing_header_as_empty"] = True
        yield unwanted


def _header_name(name: str) -> str:
    if name.startswith(_CLAIMS_PREFIX):
        raise UserError("UnsupportedMatch", f"match.headers[{name}]: claims of tokens are not known here")
    return name.lower()


def _value(field: str, wanted: StringMatch) -> Message:
    return {"present_match": True} if is_presence(wanted) else {field: build_string_match(wanted)}
