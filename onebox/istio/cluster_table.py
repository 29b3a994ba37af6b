"""The clusters that routes use, rendered, and the endpoints of each (no I/O).

A cluster is there as long as a route names it and its service has the port: a route to one that is not there is answered
with an empty 503, as on Istio.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from controller.base.errors import UserError
from onebox.istio.catalog import Catalog, Target
from onebox.istio.clusters import EndpointSource, FileEndpoints, InlineEndpoints, build_cluster, build_load_assignment
from onebox.istio.endpoint_files import EndpointFiles
from onebox.istio.registry import NO_RULE, ClusterRef, covers
from onebox.istio.xds import CLUSTER, CLUSTER_LOAD_ASSIGNMENT, any_of, render_message


class ClusterTable:
    """Follows the catalog: whoever changes it says here what he touched."""

    def __init__(self, catalog: Catalog, files: EndpointFiles) -> None:
        self._catalog = catalog
        self._files = files
        self._uses: dict[Hashable, frozenset[ClusterRef]] = {}
        self._users: dict[ClusterRef, int] = {}
        self._fed_by: dict[ClusterRef, tuple[str, ...]] = {}
        self._feeds: dict[str, set[ClusterRef]] = {}
        self._stale: set[ClusterRef] = set()
        self._stale_endpoints: set[ClusterRef] = set()
        self._clusters: dict[str, bytes] = {}
        self._endpoints: dict[str, bytes] = {}
        self.problems: dict[str, str] = {}
        """What is wrong with the rules of a cluster, by its name; it is served without them, or as before."""

    def use(self, user: Hashable, refs: frozenset[ClusterRef]) -> None:
        """Sets which clusters one user's routes name."""
        before = self._uses.pop(user, frozenset())
        if refs:
            self._uses[user] = refs
        for ref in refs - before:
            self._users[ref] = self._users.get(ref, 0) + 1
            self._stale.add(ref)
        for ref in before - refs:
            self._users[ref] -= 1
            self._stale.add(ref)

    def touch(self, host: str) -> None:
        """The service `host` is another one now."""
        self._stale |= self._feeds.get(host, set())

    def touch_endpoints(self, host: str) -> None:
        """The endpoints of `host` changed."""
        self._touch_endpoints(self._feeds.get(host, set()))

    def touch_covered(self, pattern: str) -> None:
        """A rule for these hosts changed."""
        self._stale |= {ref for ref in self._users if covers(pattern, ref.host)}

    def touch_subsets(self) -> None:
        """Labels of pods changed, which subsets go by."""
        self._touch_endpoints({ref for ref in self._users if ref.subset})

    def give_up_files(self) -> bool:
        """Makes every cluster carry its endpoints from now on; False where they do already."""
        if not self._endpoints:
            return False
        self._files.close()
        self._stale |= set(self._users)
        return True

    def is_stale(self) -> bool:
        """Whether the table itself changed, not just an endpoint file."""
        return bool(self._stale)

    def take_endpoints(self) -> Mapping[str, bytes]:
        """Endpoint files that changed since the last call, by cluster; only those whose cluster stays as it is."""
        changed: dict[str, bytes] = {}
        for ref in self._stale_endpoints - self._stale:
            target = self._catalog.target(ref)
            if target is not None:
                rendered = _render_endpoints(ref, target)
                if self._endpoints.get(ref.name) != rendered:
                    self._endpoints[ref.name] = changed[ref.name] = rendered
        self._stale_endpoints &= self._stale
        return changed

    def render(self) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
        """All clusters, and the content of all endpoint files, by cluster."""
        for ref in sorted(self._stale):  # Sorted, so that the same changes give files to the same clusters.
            self._render(ref)
        self._stale.clear()
        self.take_endpoints()
        return dict(self._clusters), dict(self._endpoints)

    def is_served(self, ref: ClusterRef) -> bool:
        """Whether requests to this cluster find it, and its endpoints have been named."""
        target = self._catalog.target(ref)
        return target is not None and target.known and ref.name in self._clusters

    def _touch_endpoints(self, refs: set[ClusterRef]) -> None:
        in_files = {ref for ref in refs if ref.name in self._endpoints}
        self._stale_endpoints |= in_files
        self._stale |= refs - in_files

    def _render(self, ref: ClusterRef) -> None:
        used = self._users.get(ref, 0) > 0
        if not used:
            self._users.pop(ref, None)
        self._feed(ref, self._catalog.hosts_of(ref) if used else ())
        target = self._catalog.target(ref) if used else None
        self._endpoints.pop(ref.name, None)
        if target is None:
            self._clusters.pop(ref.name, None)
            self.problems.pop(ref.name, None)
            self._files.release(ref.name)
            return
        source = self._source(ref, target)
        if isinstance(source, FileEndpoints):
            self._endpoints[ref.name] = _render_endpoints(ref, target)
        self._build(ref, target, source)

    def _build(self, ref: ClusterRef, target: Target, source: EndpointSource) -> None:
        self.problems.pop(ref.name, None)
        try:
            cluster = build_cluster(ref, target.port, target.rule, source)
        except UserError as error:
            self.problems[ref.name] = error.message
            if ref.name in self._clusters:
                return
            cluster = build_cluster(ref, target.port, NO_RULE, source)
        self._clusters[ref.name] = render_message(any_of(CLUSTER, cluster))

    def _source(self, ref: ClusterRef, target: Target) -> EndpointSource:
        if target.dns is not None:
            return target.dns
        path = None if target.fixed else self._files.path(ref.name)
        return FileEndpoints(path) if path else InlineEndpoints(target.endpoints)

    def _feed(self, ref: ClusterRef, hosts: tuple[str, ...]) -> None:
        for host in self._fed_by.pop(ref, ()):
            self._feeds[host].discard(ref)
            if not self._feeds[host]:
                del self._feeds[host]
        if hosts:
            self._fed_by[ref] = hosts
        for host in hosts:
            self._feeds.setdefault(host, set()).add(ref)


def _render_endpoints(ref: ClusterRef, target: Target) -> bytes:
    return render_message(any_of(CLUSTER_LOAD_ASSIGNMENT, build_load_assignment(ref.name, target.endpoints)))
