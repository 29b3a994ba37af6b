"""A Route's traffic as rules of an ingress: hosts, who sees them, and weighted backends (pure).

This is what Knative writes down as an Ingress object before it becomes Istio's; here it goes straight on, and its digest
lets a prober tell which version a gateway serves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import orjson

from onebox.knative.route.domains import RouteNames, Visibility, expanded_hosts
from onebox.knative.route.traffic import RevisionTarget, Traffic

TAG_HEADER = "Knative-Serving-Tag"
DEFAULT_ROUTE_HEADER = "Knative-Serving-Default-Route"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A share of a rule's requests for one revision's public Service."""

    revision: str
    port: int
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    hosts: tuple[str, ...]
    visibility: Visibility
    splits: tuple[Split, ...]
    tag: str = ""
    """Only for requests whose header names this tag; empty for all."""
    headers: tuple[tuple[str, str], ...] = ()
    """What requests get set on their way."""


def build_rules(traffic: Traffic, names: RouteNames, *, by_tag_header: bool = False) -> tuple[Rule, ...]:
    """For each target, sorted, one rule for inside, and one for outside unless the target is closed to it.

    `by_tag_header`: the main hosts lead to a tag's revision where a request names it, and the request learns what was
    chosen (config-features: tag-header-based-routing).
    """
    return tuple(_rules(traffic, names, by_tag_header))


def rules_digest(rules: tuple[Rule, ...], namespace: str, name: str) -> str:
    """A name for this version of the rules; any change changes it."""
    content = orjson.dumps([asdict(rule) for rule in rules])
    return hashlib.sha256(content + namespace.encode() + name.encode()).hexdigest()


def build_tag_hosts(traffic: Traffic, names: RouteNames) -> dict[str, list[str]]:
    """The main hosts of each tag, inside first."""
    return {
        target: [names.host(target, visibility) for visibility in _seen_by(target, names)]
        for target in sorted(traffic.targets)
        if target
    }


def _rules(traffic: Traffic, names: RouteNames, by_tag_header: bool) -> Iterator[Rule]:
    for target in sorted(traffic.targets):
        for visibility in _seen_by(target, names):
            host = names.host(target, visibility)
            hosts = tuple(expanded_hosts([host])) if visibility is Visibility.LOCAL else (host,)
            rule = Rule(hosts=hosts, visibility=visibility, splits=_splits(traffic, target))
            if not by_tag_header:
                yield rule
            elif target:
                yield replace(rule, headers=((TAG_HEADER, target),))
            else:
                yield from _rules_by_header(rule, traffic, names)
                yield replace(rule, headers=((DEFAULT_ROUTE_HEADER, "true"),))


def _rules_by_header(rule: Rule, traffic: Traffic, names: RouteNames) -> Iterator[Rule]:
    for tag in sorted(filter(None, traffic.targets)):
        if rule.visibility in _seen_by(tag, names):  # What is closed to the outside cannot be had there by a header.
            yield replace(rule, splits=_splits(traffic, tag), tag=tag)


def _splits(traffic: Traffic, target: str) -> tuple[Split, ...]:
    return tuple(_split(found) for found in traffic.targets[target] if found.percent)


def _seen_by(target: str, names: RouteNames) -> tuple[Visibility, ...]:
    if names.visibility.get(target, Visibility.EXTERNAL) is Visibility.LOCAL:
        return (Visibility.LOCAL,)
    return (Visibility.LOCAL, Visibility.EXTERNAL)


def _split(target: RevisionTarget) -> Split:
    return Split(revision=target.revision, port=target.port, percent=target.percent)
