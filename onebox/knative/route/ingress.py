"""A Route's traffic as rules of an ingress: hosts, who sees them, and weighted backends (pure).

This is what Knative writes down as an Ingress object before it becomes Istio's; here it goes straight on, and its digest
lets a prober tell which version a gateway serves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import orjson

from onebox.knative.route.domains import RouteNames, Visibility, expanded_hosts
from onebox.knative.route.traffic import RevisionTarget, Traffic


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


def build_rules(traffic: Traffic, names: RouteNames) -> tuple[Rule, ...]:
    """For each target, sorted, one rule for inside, and one for outside unless the target is closed to it."""
    return tuple(_rules(traffic, names))


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


def _rules(traffic: Traffic, names: RouteNames) -> Iterator[Rule]:
    for target in sorted(traffic.targets):
        splits = tuple(_split(found) for found in traffic.targets[target] if found.percent)
        for visibility in _seen_by(target, names):
            host = names.host(target, visibility)
            hosts = expanded_hosts([host]) if visibility is Visibility.LOCAL else [host]
            yield Rule(hosts=tuple(hosts), visibility=visibility, splits=splits)


def _seen_by(target: str, names: RouteNames) -> tuple[Visibility, ...]:
    if names.visibility.get(target, Visibility.EXTERNAL) is Visibility.LOCAL:
        return (Visibility.LOCAL,)
    return (Visibility.LOCAL, Visibility.EXTERNAL)


def _split(target: RevisionTarget) -> Split:
    return Split(revision=target.revision, port=target.port, percent=target.percent)
