"""Which revisions and Configurations a Route uses, written down on them: who is needed, who may be collected (pure).

A revision that some Route names is active; one that none names any more is in reserve, from that moment on. A name is
added as soon as the Route might use it, and taken away only when the Route has settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controller.api.knative import Configuration, Revision, Route, is_ready
from controller.api.meta import controller_of
from controller.base.clock import rfc3339
from controller.base.json import JsonObject
from controller.base.names import ROUTING_STATE_LABEL
from controller.kube.resources import CONFIGURATIONS, REVISIONS, ResourceType
from onebox.knative.names import ROUTES_ANNOTATION, ROUTING_STATE_MODIFIED_ANNOTATION
from onebox.knative.route.plan import is_failed
from onebox.knative.route.traffic import Lookup

ACTIVE, RESERVE = "active", "reserve"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPatch:
    """A merge patch of one object's metadata."""

    resource: ResourceType
    namespace: str
    name: str
    patch: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSnapshot:
    """All that one decision about a Route's marks looks at."""

    namespace: str
    name: str
    route: Route | None
    """None: it is gone, or going."""
    configurations: Lookup[Configuration]
    revisions: Lookup[Revision]
    marked_configurations: tuple[Configuration, ...]
    """Those whose annotation names the Route."""
    marked_revisions: tuple[Revision, ...]
    now_s: float


def plan_routing(snapshot: RoutingSnapshot) -> tuple[MetadataPatch, ...]:
    """The patches that make the marks right; nothing where they are."""
    revisions, configurations = _used(snapshot)
    patches = [_revision_patch(revision, snapshot, add=True) for revision in revisions.values()]
    patches += [_configuration_patch(found, snapshot, add=True) for found in configurations.values()]
    if snapshot.route is None or is_ready(snapshot.route) or is_failed(snapshot.route):
        for revision in snapshot.marked_revisions:
            if revision.metadata.name not in revisions:
                patches.append(_revision_patch(revision, snapshot, add=False))
        for configuration in snapshot.marked_configurations:
            if configuration.metadata.name not in configurations:
                patches.append(_configuration_patch(configuration, snapshot, add=False))
    return tuple(patch for patch in patches if patch is not None)


def routes_of(resource: Revision | Configuration) -> frozenset[str]:
    """The Routes that the object's annotation names."""
    return frozenset(filter(None, resource.metadata.annotations.get(ROUTES_ANNOTATION, "").split(",")))


def _used(snapshot: RoutingSnapshot) -> tuple[dict[str, Revision], dict[str, Configuration]]:
    revisions: dict[str, Revision] = {}
    configurations: dict[str, Configuration] = {}
    if snapshot.route is None:
        return revisions, configurations
    for revision_name, configuration_name, follows_latest in _references(snapshot.route, snapshot.revisions):
        if (revision := snapshot.revisions.get(revision_name)) is not None:
            revisions[revision_name] = revision
        configuration = snapshot.configurations.get(configuration_name)
        if configuration is None:
            continue
        configurations[configuration_name] = configuration
        latest = configuration.status.latestCreatedRevisionName
        # The newest revision is marked before it is ready, so that it counts as reachable while it starts.
        if follows_latest and latest and (revision := snapshot.revisions.get(latest)) is not None:
            revisions[latest] = revision
    return revisions, configurations


def _references(route: Route, revisions: Lookup[Revision]) -> Iterator[tuple[str, str, bool]]:
    """(revision, configuration, follows the latest) of each target in spec and status; empty where there is none."""
    for target in (*(route.status.traffic or ()), *route.spec.traffic):
        name, configuration = target.revisionName or "", target.configurationName or ""
        revision = revisions.get(name) if name else None
        owner = controller_of(revision.metadata) if revision is not None else None
        if owner is not None and owner.kind == "Configuration":
            configuration = owner.name
        yield name, configuration, bool(target.latestRevision)


def _revision_patch(revision: Revision, snapshot: RoutingSnapshot, *, add: bool) -> MetadataPatch | None:
    annotations = _annotation_patch(routes_of(revision), snapshot.name, add=add)
    routes = annotations.get(ROUTES_ANNOTATION, ",".join(routes_of(revision)))
    state = ACTIVE if routes else RESERVE
    labels: JsonObject = {}
    if revision.metadata.labels.get(ROUTING_STATE_LABEL) != state:
        labels[ROUTING_STATE_LABEL] = state
        annotations[ROUTING_STATE_MODIFIED_ANNOTATION] = rfc3339(snapshot.now_s)
    return _patch(REVISIONS, revision, annotations, labels)


def _configuration_patch(configuration: Configuration, snapshot: RoutingSnapshot, *, add: bool) -> MetadataPatch | None:
    annotations = _annotation_patch(routes_of(configuration), snapshot.name, add=add)
    return _patch(CONFIGURATIONS, configuration, annotations, {})


def _annotation_patch(routes: frozenset[str], name: str, *, add: bool) -> JsonObject:
    wanted = routes | {name} if add else routes - {name}
    return {} if wanted == routes else {ROUTES_ANNOTATION: ",".join(sorted(wanted)) or None}


def _patch(
    resource: ResourceType, target: Revision | Configuration, annotations: JsonObject, labels: JsonObject
) -> MetadataPatch | None:
    meta = {key: value for key, value in (("annotations", annotations), ("labels", labels)) if value}
    if not meta:
        return None
    named = target.metadata
    return MetadataPatch(resource=resource, namespace=named.namespace, name=named.name, patch={"metadata": meta})


def all_routes(resources: Iterable[Revision | Configuration]) -> frozenset[str]:
    """Every Route that any of these names."""
    return frozenset(name for resource in resources for name in routes_of(resource))
