"""All VirtualServices as Envoy's tables, kept up to date change by change (no I/O).

A change touches what hangs on it and nothing else: a VirtualService its own routes and those that lead through it, a
service the routes that name it, endpoints one cluster. Everything rendered stays as bytes, so that a table of hundreds of
hosts is put together by joining. Where a VirtualService cannot be translated, what it said before stays in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from controller.api.istio import DestinationRule, Gateway, HttpRoute, VirtualService
from controller.base.errors import UserError
from controller.base.json import JsonView
from onebox.istio.authority import drop_known_authorities, reachable_hosts
from onebox.istio.catalog import Catalog
from onebox.istio.cluster_table import ClusterTable
from onebox.istio.collapse import collapse, complete_names
from onebox.istio.endpoint_files import EndpointFiles
from onebox.istio.gateways import Binding, GatewayServer, Servers, bind, filter_routes, gateway_servers
from onebox.istio.hosts import Group, HostTable, ServiceKey
from onebox.istio.live import VersionId
from onebox.istio.registry import (
    ClusterRef,
    Listener,
    RegisteredService,
    Rule,
    covers,
    parse_endpoints,
    parse_service,
    resolve_host,
    service_host,
)
from onebox.istio.routes import RouteScope, build_all_routes
from onebox.istio.xds import render_message

GATEWAY_PORTS: Mapping[Listener, int] = {Listener.PUBLIC: 80, Listener.LOCAL: 8081}
"""The port of Istio's gateway that each listener stands for."""
_CATCH_ALL = {"prefix": "/"}


class Unit(NamedTuple):
    """The routes of one VirtualService on one listener: what is rendered at once."""

    listener: Listener
    key: ServiceKey


class Token(NamedTuple):
    """Something that the rendering of a unit asked about; `kind` is service, rule or routes."""

    kind: str
    host: str


@dataclass(frozen=True, slots=True)
class RenderedUnit:
    routes: tuple[bytes, ...] = ()
    last_routes: tuple[bytes, ...] = ()
    """Those that take every request that is left; they stand behind everybody else's."""
    clusters: frozenset[ClusterRef] = frozenset()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to tell the owner of a VirtualService. `refused`: this generation is not served."""

    version: VersionId
    reason: str
    message: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """A generation that nobody has confirmed yet, and what has to be in force for it."""

    version: VersionId
    virtual_hosts: frozenset[tuple[Listener, str]]
    clusters: frozenset[str]
    complete: bool
    """Whether every destination exists and has been said to have endpoints, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What Envoy should have, as of one moment: rendered resources by name."""

    clusters: Mapping[str, bytes]
    virtual_hosts: Mapping[Listener, Mapping[str, bytes]]
    endpoints: Mapping[str, bytes]
    """Content of endpoint files by cluster."""
    offers: tuple[Offer, ...]
    findings: tuple[Finding, ...]


class _Recorder:
    """The catalog as one unit's rendering sees it; notes what was asked."""

    def __init__(self, translation: Translation) -> None:
        self._translation = translation
        self.asked: set[Token] = set()

    def service(self, host: str) -> RegisteredService | None:
        self.asked.add(Token("service", host))
        return self._translation.catalog.service(host)

    def rule(self, host: str) -> Rule:
        self.asked.add(Token("rule", host))
        return self._translation.catalog.rules.of(host)

    def local_routes(self, host: str) -> Sequence[HttpRoute]:
        self.asked.add(Token("routes", host))
        return self._translation.local_routes(host, self)


class Translation:
    """Takes objects as they change, `None` for those that are gone; `render` says what follows from all of them."""

    def __init__(self, ports: Mapping[Listener, int], files: EndpointFiles) -> None:
        self.catalog = Catalog(ports)
        self.clusters = ClusterTable(self.catalog, files)
        self._views: dict[ServiceKey, JsonView] = {}
        self._bindings: dict[ServiceKey, Mapping[Listener, Binding]] = {}
        self._servers: dict[str, tuple[GatewayServer, ...]] = {}
        self._hosts = HostTable()
        self._rendered: dict[Unit, RenderedUnit] = {}
        self._asked: dict[Unit, frozenset[Token]] = {}
        self._askers: dict[Token, set[Unit]] = {}
        self._virtual_hosts: dict[Listener, dict[str, bytes]] = {listener: {} for listener in Listener}
        self._stale: set[Unit] = set()
        self._unconfirmed: set[ServiceKey] = set()
        self._findings: dict[ServiceKey, dict[Listener | None, Finding]] = {}

    # What changes.

    def set_virtual_service(self, key: ServiceKey, view: JsonView | None) -> None:
        known = self._views.get(key)
        if known is not None and view is not None and _same_object(known, view):
            self._views[key] = view
            return
        if view is None:
            self._views.pop(key, None)
            self._findings.pop(key, None)
            self._unconfirmed.discard(key)
        else:
            self._views[key] = view
            self._unconfirmed.add(key)
        self._bind(key)

    def set_gateway(self, key: ServiceKey, view: JsonView | None) -> None:
        name = "/".join(key)
        servers = gateway_servers(Gateway.parse(view)) if view is not None else ()
        if self._servers.get(name, ()) == servers:
            return
        self._servers[name] = servers
        for service_key in self._views:
            self._bind(service_key)

    def set_rule(self, key: ServiceKey, view: JsonView | None) -> None:
        rule = DestinationRule.parse(view) if view is not None else None
        old = self.catalog.rules.get(key)
        self.catalog.rules.set(key, rule)
        for changed in (old, rule):
            if changed is not None:
                pattern = resolve_host(changed.spec.host, key[0])
                self.clusters.touch_covered(pattern)
                for token in [token for token in self._askers if token.kind == "rule" and covers(pattern, token.host)]:
                    self._touch(token)

    def set_service(self, key: ServiceKey, view: JsonView | None) -> None:
        host = service_host(*key)
        if self.catalog.set_service(host, parse_service(view) if view is not None else None):
            self.clusters.touch(host)
            self._touch(Token("service", host))

    def set_endpoints(self, key: ServiceKey, view: JsonView | None) -> None:
        host = service_host(*key)
        if self.catalog.set_endpoints(host, parse_endpoints(view) if view is not None else None):
            self.clusters.touch_endpoints(host)

    def set_pod(self, key: ServiceKey, labels: Mapping[str, str] | None) -> None:
        if self.catalog.set_pod(key, labels):
            self.clusters.touch_subsets()

    def confirmed(self, version: VersionId) -> None:
        """This generation needs no further confirmation."""
        view = self._views.get((version.namespace, version.name))
        if view is not None and version_of(view) == version:
            self._unconfirmed.discard((version.namespace, version.name))

    # What follows.

    def is_stale(self) -> bool:
        """Whether `render` would say something new, apart from endpoints in files."""
        return bool(self._stale or self._unconfirmed) or self._hosts.has_changed() or self.clusters.is_stale()

    def render(self) -> Desired:
        """What Envoy should have now."""
        changed = self._hosts.take_changed()
        for unit in self._stale:
            self._render_unit(unit)
            changed |= self._hosts.groups_of(*unit)
        self._stale.clear()
        for group in changed:
            self._render_group(group)
        clusters, endpoints = self.clusters.render()
        return Desired(
            clusters=clusters,
            virtual_hosts={listener: dict(hosts) for listener, hosts in self._virtual_hosts.items()},
            endpoints=endpoints,
            offers=tuple(self._offer(key) for key in sorted(self._unconfirmed)),
            findings=tuple(self._all_findings()),
        )

    def owners_of(self, virtual_host: str) -> list[VersionId]:
        """The VirtualServices whose routes a virtual host has."""
        keys = (tuple(part.split("/", 1)) for part in virtual_host.split("+"))
        return [version_of(view) for namespace, name in keys if (view := self._views.get((namespace, name)))]

    def users_of(self, cluster: str) -> list[VersionId]:
        """The VirtualServices that lead to a cluster."""
        units = [
            unit for unit, rendered in self._rendered.items() if cluster in {ref.name for ref in rendered.clusters}
        ]
        return [version_of(self._views[key]) for key in sorted({unit.key for unit in units}) if key in self._views]

    def local_routes(self, host: str, registry: _Recorder) -> tuple[HttpRoute, ...]:
        """What the cluster-local listener does with requests to `host`; nothing where several answer for it."""
        owners = self._hosts.owners(Listener.LOCAL, host)
        if len(owners) != 1:
            return ()
        namespace = owners[0][0]
        try:
            routes = VirtualService.parse(self._views[owners[0]]).spec.http
        except ValidationError:
            return ()
        applying = filter_routes(routes, self._bindings[owners[0]][Listener.LOCAL], namespace)
        return complete_names(applying, namespace, registry, gateway_port=GATEWAY_PORTS[Listener.LOCAL])

    def _bind(self, key: ServiceKey) -> None:
        view = self._views.get(key)
        bindings: Mapping[Listener, Binding] = {}
        created = ""
        if view is not None:
            try:
                bindings = _bindings(VirtualService.parse(view), self._servers)
            except ValidationError as error:
                self._find(key, None, UserError("InvalidVirtualService", _first_error(error)))
                return
            self._forgive(key, None)
            created = view["metadata"].get("creationTimestamp") or ""
        before = self._bindings.pop(key, {})
        if bindings:
            self._bindings[key] = bindings
        for listener in Listener:
            known = self._hosts.hosts_of(listener, key)
            hosts = bindings[listener].hosts if listener in bindings else ()
            self._hosts.claim(listener, key, created=created, hosts=hosts)
            if listener in bindings or listener in before:
                self._stale.add(Unit(listener, key))
            if listener is Listener.LOCAL:
                for host in {*known, *hosts}:
                    self._touch(Token("routes", host))

    def _touch(self, token: Token) -> None:
        self._stale |= self._askers.get(token, set())

    def _render_unit(self, unit: Unit) -> None:
        view, binding = self._views.get(unit.key), self._bindings.get(unit.key, {}).get(unit.listener)
        if view is None or binding is None:
            self._rendered.pop(unit, None)
            self._ask(unit, frozenset())
            self.clusters.use(unit, frozenset())
            return
        recorder = _Recorder(self)
        try:
            rendered = _render_routes(VirtualService.parse(view), unit, binding, recorder)
        except UserError as error:
            self._ask(unit, frozenset(recorder.asked) | self._asked.get(unit, frozenset()))
            self._find(unit.key, unit.listener, error)
            return
        self._forgive(unit.key, unit.listener)
        self._rendered[unit] = rendered
        self._ask(unit, frozenset(recorder.asked))
        self.clusters.use(unit, rendered.clusters)

    def _ask(self, unit: Unit, asked: frozenset[Token]) -> None:
        for token in self._asked.pop(unit, frozenset()) - asked:
            self._askers[token].discard(unit)
            if not self._askers[token]:
                del self._askers[token]
        for token in asked:
            self._askers.setdefault(token, set()).add(unit)
        if asked:
            self._asked[unit] = asked

    def _render_group(self, group: Group) -> None:
        table = self._virtual_hosts[group.listener]
        domains = self._hosts.domains(group)
        units = [self._rendered.get(Unit(group.listener, key)) for key in group.owners]
        present = [unit for unit in units if unit is not None]
        if not domains or not present:
            table.pop(group.name, None)
            return
        routes = [route for unit in present for route in unit.routes]
        routes += [route for unit in present for route in unit.last_routes]
        head = orjson.dumps({"name": group.name, "domains": domains})
        table[group.name] = b'%s,"routes":[%s]}' % (head[:-1], b",".join(routes))

    def _offer(self, key: ServiceKey) -> Offer:
        listeners = self._bindings.get(key, {})
        rendered = [self._rendered.get(Unit(listener, key), RenderedUnit()) for listener in listeners]
        refs = {ref for unit in rendered for ref in unit.clusters}
        groups = {
            (group.listener, group.name) for listener in listeners for group in self._hosts.groups_of(listener, key)
        }
        complete = bool(groups) and key not in self._findings and all(self.clusters.is_served(ref) for ref in refs)
        return Offer(
            version_of(self._views[key]), frozenset(groups), frozenset(ref.name for ref in refs), complete=complete
        )

    def _find(self, key: ServiceKey, listener: Listener | None, error: UserError) -> None:
        finding = Finding(version_of(self._views[key]), error.reason, error.message, refused=True)
        self._findings.setdefault(key, {})[listener] = finding

    def _forgive(self, key: ServiceKey, listener: Listener | None) -> None:
        found = self._findings.get(key, {})
        found.pop(listener, None)
        if not found:
            self._findings.pop(key, None)

    def _all_findings(self) -> Iterator[Finding]:
        for found in self._findings.values():
            yield from found.values()
        for group in self._hosts.shared():
            hosts = ", ".join(self._hosts.domains(group))
            first = "/".join(group.owners[0])
            for key in group.owners[1:]:
                message = f"{hosts}: claimed by {first} too, which is older, so its routes come first"
                yield Finding(version_of(self._views[key]), "HostShared", message, refused=False)
        for cluster, problem in self.clusters.problems.items():
            for version in self.users_of(cluster):
                yield Finding(version, "InvalidDestinationRule", f"{cluster}: {problem}", refused=False)


def _bindings(virtual_service: VirtualService, servers: Servers) -> dict[Listener, Binding]:
    """Where the VirtualService is served, without hosts that none of its routes can take there."""
    bindings = {}
    for listener, binding in bind(virtual_service, servers).items():
        routes = filter_routes(virtual_service.spec.http, binding, virtual_service.metadata.namespace)
        hosts = reachable_hosts(routes, binding.hosts)
        if hosts:
            bindings[listener] = replace(binding, hosts=hosts)
    return bindings


def _render_routes(virtual_service: VirtualService, unit: Unit, binding: Binding, registry: _Recorder) -> RenderedUnit:
    namespace = unit.key[0]
    scope = RouteScope(namespace=namespace, gateway_port=GATEWAY_PORTS[unit.listener], registry=registry)
    routes = drop_known_authorities(filter_routes(virtual_service.spec.http, binding, namespace), binding.hosts)
    built = build_all_routes(collapse(routes, namespace, registry), scope)
    last = [route for route in built.routes if route["match"] == _CATCH_ALL]
    earlier = [route for route in built.routes if route["match"] != _CATCH_ALL]
    return RenderedUnit(tuple(map(render_message, earlier)), tuple(map(render_message, last)), built.clusters)


def version_of(view: JsonView) -> VersionId:
    """Which generation of which VirtualService this is."""
    meta = view["metadata"]
    return VersionId(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=str(meta.get("uid") or ""),
        generation=int(meta.get("generation") or 1),
    )


def _same_object(known: JsonView, view: JsonView) -> bool:
    return known.get("spec") == view.get("spec") and version_of(known) == version_of(view)


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field}: {first['msg']}"
