"""What is known about a match before any request comes: whether a host fulfils it (pure).

A virtual host takes requests to its own hosts only, so a match that all of these fulfil need not be asked again, and one
that none does can go. KServe and Knative write such matches for every host; without them a table is half as large and
compiles no regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from controller.api.istio import HttpMatch, HttpRoute, StringMatch
from onebox.istio.matches import is_presence

_SAMPLE_PORTS = ("", ":1", ":8080", ":65535")
"""A Host comes without a port or with one; a match must treat them alike to be known."""
_LITERAL = re.compile(r"\^?((?:[\w-]|\\[.-])+)(\(\?::\\d\{1,5\}\)\?)?\$?")
"""The regular expressions that are understood here: literal text, then perhaps a port, as KServe writes them. All others are
Envoy's: trying them in Python would let somebody's pattern take for ever."""
_PORT = re.compile(r":\d{1,5}")


def is_known_regex(pattern: str, value: str) -> bool | None:
    """Whether the whole of `value` matches; None where only Envoy can say."""
    understood = _LITERAL.fullmatch(pattern)
    if understood is None:
        return None
    text, port = understood[1].replace("\\", ""), understood[2]
    rest = value.removeprefix(text)
    return value.startswith(text) and (not rest or (bool(port) and _PORT.fullmatch(rest) is not None))


def holds(wanted: StringMatch, value: str) -> bool | None:
    """Whether a value that is there fulfils `wanted`; None where only Envoy can say."""
    if is_presence(wanted):
        return True
    if wanted.exact is not None:
        return wanted.exact == value
    if wanted.prefix is not None:
        return value.startswith(wanted.prefix)
    return is_known_regex(wanted.regex or "", value)


def holds_for_host(wanted: StringMatch | None, host: str) -> bool | None:
    """Whether requests to `host` fulfil a match on the authority, with any port or none; None where that depends."""
    if wanted is None:
        return True
    if "*" in host:
        return None
    verdicts = {holds(wanted, host + port) for port in _SAMPLE_PORTS}
    if len(verdicts) == 1:
        (verdict,) = verdicts
        # A prefix that ends in a port other than the samples'.
        return None if verdict is False and _names_port(wanted, host) else verdict
    return None


def _names_port(wanted: StringMatch, host: str) -> bool:
    return (wanted.exact or wanted.prefix or "").startswith(host + ":")


def reachable_hosts(routes: Iterable[HttpRoute], hosts: Iterable[str]) -> tuple[str, ...]:
    """The hosts that some route may take; requests to the others find nothing, as if the host were not there."""
    known = list(routes)
    return tuple(host for host in hosts if any(_may_take(route, host) for route in known))


def _may_take(route: HttpRoute, host: str) -> bool:
    return not route.match or any(holds_for_host(match.authority, host) is not False for match in route.match)


def drop_known_authorities(routes: Iterable[HttpRoute], hosts: Iterable[str]) -> tuple[HttpRoute, ...]:
    """The same routes for requests to these hosts, without what is known about the authority."""
    served = list(hosts)
    found = []
    for route in routes:
        matches = [kept for match in route.match if (kept := _known(match, served)) is not None]
        if matches or not route.match:
            found.append(route.replace(match=matches))
    return tuple(found)


def _known(match: HttpMatch, hosts: Iterable[str]) -> HttpMatch | None:
    if match.authority is None:
        return match
    verdicts = {holds_for_host(match.authority, host) for host in hosts}
    if verdicts == {False}:
        return None
    return match.replace(authority=None) if verdicts == {True} else match
