"""Which revisions a Route's traffic means now, or what is in the way (pure).

A bad target stops everything: the caller leaves the routes that are in force alone, so that a mistake, or a revision that
does not come up, never takes away what serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from controller.api.knative import Configuration, Revision, Route, TrafficTarget, is_ready
from controller.base.names import CONFIGURATION_LABEL, KSVC_LABEL
from onebox.knative.conditions import FALSE, READY, UNKNOWN
from onebox.knative.revision.services import service_port

DEFAULT_TARGET = ""
"""The name of the target that the route's own host means; the other names are tags."""
_ALL = 100

Found = TypeVar("Found", covariant=True)


class Lookup(Protocol[Found]):
    """Objects of one namespace by name; a Mapping is one."""

    def get(self, name: str, /) -> Found | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionTarget:
    """A share of the requests for one revision."""

    revision: str
    tag: str
    percent: int
    latest: bool
    """Whether the target follows the newest ready revision, and with it which one it is."""
    port: int
    """Of the revision's public Service."""
    configuration: str = ""
    """The Configuration whose newest ready revision it follows; empty where it follows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadTarget:
    """Why traffic cannot be assigned: words for the condition AllTrafficAssigned."""

    status: str
    """False where somebody must act, Unknown where waiting may help."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Where requests go."""

    listed: tuple[RevisionTarget, ...]
    """As the spec lists them, for the status."""
    targets: Mapping[str, tuple[RevisionTarget, ...]]
    """By name: the shares of the default target, and the one revision of each tag."""


def resolve_traffic(
    route: Route, configurations: Lookup[Configuration], revisions: Lookup[Revision]
) -> Traffic | BadTarget:
    """The revisions behind the Route's targets. Of several bad targets one that failed is named before one that waits."""
    found: list[RevisionTarget] = []
    bad: BadTarget | None = None
    for target in route.spec.traffic:
        resolved = _resolve(target, route, configurations, revisions)
        if isinstance(resolved, RevisionTarget):
            found.append(resolved)
        elif bad is None or resolved.status == FALSE:
            bad = resolved
    if bad is not None:
        return bad
    names = {DEFAULT_TARGET: found, **{target.tag: [target] for target in found if target.tag}}
    return Traffic(
        listed=_merged(found, by_tag=True),
        targets={name: _whole(merge_targets(targets)) for name, targets in names.items()},
    )


def _resolve(
    target: TrafficTarget, route: Route, configurations: Lookup[Configuration], revisions: Lookup[Revision]
) -> RevisionTarget | BadTarget:
    if target.revisionName:
        return _resolve_revision(target, target.revisionName, route, configurations, revisions)
    name = target.configurationName or ""
    configuration = configurations.get(name)
    if configuration is None:
        return _missing("Configuration", name)
    latest = configuration.status.latestReadyRevisionName
    if not latest:
        return _unready_configuration(configuration)
    revision = revisions.get(latest)
    if revision is None:
        return _missing("Revision", latest)
    return _target_of(target, revision, configuration=name)


def _resolve_revision(
    target: TrafficTarget,
    name: str,
    route: Route,
    configurations: Lookup[Configuration],
    revisions: Lookup[Revision],
) -> RevisionTarget | BadTarget:
    revision = revisions.get(name)
    if revision is None:
        return _missing("Revision", name)
    wanted, actual = route.metadata.labels.get(KSVC_LABEL, ""), revision.metadata.labels.get(KSVC_LABEL, "")
    if wanted and wanted != actual:
        # The Route of a Service must not lead to the revisions of another one: who may edit the one may not the other.
        other = f'belongs to Service "{actual}", not Service "{wanted}".'
        what = other if actual else f'does not belong to Service "{wanted}".'
        return BadTarget(status=FALSE, reason="RevisionNotOwned", message=f'Revision "{name}" {what}')
    configuration = revision.metadata.labels.get(CONFIGURATION_LABEL)
    if configuration and configurations.get(configuration) is None:
        return _missing("Configuration", configuration)
    return _target_of(target, revision)


def _target_of(target: TrafficTarget, revision: Revision, *, configuration: str = "") -> RevisionTarget | BadTarget:
    if not is_ready(revision):
        return _unready_revision(revision)
    return RevisionTarget(
        revision=revision.metadata.name,
        tag=target.tag or "",
        percent=target.percent or 0,
        latest=bool(target.latestRevision),
        port=service_port(revision),
        configuration=configuration,
    )


def _missing(kind: str, name: str) -> BadTarget:
    return BadTarget(status=FALSE, reason=f"{kind}Missing", message=f'{kind} "{name}" referenced in traffic not found.')


def _unready_configuration(configuration: Configuration) -> BadTarget:
    name, ready = configuration.metadata.name, configuration.status.condition(READY)
    if ready is not None and ready.status == FALSE:
        message = f'Configuration "{name}" does not have any ready Revision.'
        return BadTarget(status=FALSE, reason="RevisionMissing", message=message)
    message = f'Configuration "{name}" is waiting for a Revision to become ready.'
    return BadTarget(status=UNKNOWN, reason="RevisionMissing", message=message)


def _unready_revision(revision: Revision) -> BadTarget:
    name, ready = revision.metadata.name, revision.status.condition(READY)
    if ready is not None and ready.status == FALSE:
        return BadTarget(status=FALSE, reason="RevisionMissing", message=f'Revision "{name}" failed to become ready.')
    return BadTarget(status=UNKNOWN, reason="RevisionMissing", message=f'Revision "{name}" is not yet ready.')


def merge_targets(targets: Iterable[RevisionTarget]) -> tuple[RevisionTarget, ...]:
    """Targets of one name that lead to the same revision, as one with their percents added."""
    return _merged(targets, by_tag=False)


def _merged(targets: Iterable[RevisionTarget], *, by_tag: bool) -> tuple[RevisionTarget, ...]:
    """Targets that mean the same, as one with their percents added; the first one's place and words stay."""
    merged: dict[tuple[object, ...], RevisionTarget] = {}
    for target in targets:
        key = (target.tag, target.revision, target.latest) if by_tag else (target.revision,)
        known = merged.get(key)
        merged[key] = target if known is None else replace(known, percent=known.percent + target.percent)
    return tuple(merged.values())


def _whole(targets: tuple[RevisionTarget, ...]) -> tuple[RevisionTarget, ...]:
    # A tag's only revision gets all that comes for the tag, whatever its share of the route.
    return (replace(targets[0], percent=_ALL),) if len(targets) == 1 else targets
