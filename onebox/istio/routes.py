"""HttpRoute as Envoy's Routes, and VirtualHosts of them (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.api.istio import ConsistentHash, DirectResponse, HttpRoute, Redirect, Rewrite, RouteDestination
from controller.base.errors import UserError
from onebox.istio.filters import build_filter_overrides, build_mirrors
from onebox.istio.headers import authority_of, build_header_operations
from onebox.istio.matches import build_matches, is_catch_all
from onebox.istio.registry import ClusterRef, Registry, resolve_destination
from onebox.istio.retries import build_duration, build_retry_policy
from onebox.istio.xds import Message

NO_TIMEOUT = "0s"
"""Always written: Envoy's own default cuts a request after 15 s."""
_REDIRECT_CODES = {
    0: "MOVED_PERMANENTLY",
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_STATUS_CODES = range(200, 600)
_PATH_PREFIX = "%PREFIX()%"
"""Start of a redirect's `uri` by which Istio means: replace the matched prefix only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteScope:
    """Where a route is said: names are relative to the namespace, and absent ports to the gateway's."""

    namespace: str
    gateway_port: int
    registry: Registry


@dataclass(frozen=True, slots=True)
class BuiltRoutes:
    """Routes in the order in which Envoy tries them. `catch_all`: the last one takes every request that is left."""

    routes: tuple[Message, ...]
    clusters: frozenset[ClusterRef]
    catch_all: bool


def build_all_routes(routes: Iterable[HttpRoute], scope: RouteScope) -> BuiltRoutes:
    """The routes of one VirtualService on one listener. What stands behind one that takes everything is left out."""
    built: list[Message] = []
    clusters: set[ClusterRef] = set()
    for route in routes:
        built += build_routes(route, scope)
        clusters |= clusters_of(route, scope)
        if not route.match or any(is_catch_all(match) for match in route.match):
            return BuiltRoutes(tuple(built), frozenset(clusters), catch_all=True)
    return BuiltRoutes(tuple(built), frozenset(clusters), catch_all=False)


def build_routes(route: HttpRoute, scope: RouteScope) -> list[Message]:
    """One Envoy Route for each match of `route`; UserError where something in it cannot work."""
    action = _action(route, scope)
    if route.name:
        action["name"] = route.name
    return [{"match": match, **action} for match in build_matches(route)]


def clusters_of(route: HttpRoute, scope: RouteScope) -> set[ClusterRef]:
    """Every cluster that requests on the route can reach, mirrors included."""
    used = _weighted(route) if route.route else []
    destinations = [entry.destination for entry in used] + [entry.destination for entry in route.mirrors]
    if route.mirror is not None:
        destinations.append(route.mirror)
    return {
        resolve_destination(destination, scope.namespace, scope.registry, gateway_port=scope.gateway_port)
        for destination in destinations
    }


def build_virtual_host(name: str, domains: Sequence[str], routes: Sequence[Message]) -> Message:
    """A VirtualHost; a request to one of its domains that no route takes is answered with an empty 404."""
    return {"name": name, "domains": list(domains), "routes": list(routes)}


def _action(route: HttpRoute, scope: RouteScope) -> Message:
    headers = build_header_operations(route.headers)
    if route.redirect is not None:
        return {"redirect": _redirect(route.redirect, scope), **headers}
    if route.directResponse is not None:
        return {"direct_response": _direct_response(route.directResponse), **headers}
    if route.delegate is not None:
        raise UserError("UnsupportedRoute", "http.delegate is not supported; put the delegate's routes here")
    destinations = _weighted(route)
    action, own_headers = _forward(route, destinations, scope)
    overrides = build_filter_overrides(route)
    built: Message = {"route": action, **_merge_headers(headers, own_headers)}
    return {**built, "typed_per_filter_config": overrides} if overrides else built


def _weighted(route: HttpRoute) -> list[RouteDestination]:
    if not route.route:
        raise UserError("InvalidRoute", "http.route is empty, must have a destination, a redirect or a direct response")
    if len(route.route) == 1:
        return list(route.route)
    if any(entry.weight < 0 for entry in route.route):
        raise UserError("InvalidRoute", "http.route.weight is negative, must be at least 0")
    used = [entry for entry in route.route if entry.weight > 0]
    if not used:
        raise UserError("InvalidRoute", "all of http.route.weight are 0, must add up to more")
    return used


def _forward(route: HttpRoute, destinations: Sequence[RouteDestination], scope: RouteScope) -> tuple[Message, Message]:
    """The RouteAction, and the header operations of a sole destination, which belong on the route."""
    clusters = [
        resolve_destination(entry.destination, scope.namespace, scope.registry, gateway_port=scope.gateway_port)
        for entry in destinations
    ]
    action: Message = {"timeout": build_duration("timeout", route.timeout) if route.timeout else NO_TIMEOUT}
    action |= _rewrite(route.rewrite) if route.rewrite else {}
    if authority := authority_of(route.headers):
        action["host_rewrite_literal"] = authority
    own_headers: Message = {}
    if len(destinations) == 1:
        action["cluster"] = clusters[0].name
        own_headers = build_header_operations(destinations[0].headers)
        if authority := authority_of(destinations[0].headers):
            action["host_rewrite_literal"] = authority
    else:
        shares = zip(destinations, clusters, strict=True)
        action["weighted_clusters"] = {"clusters": [_share(entry, cluster) for entry, cluster in shares]}
    retry_policy = build_retry_policy(route.retries, revision=all(_is_revision(ref, scope) for ref in clusters))
    action |= {"retry_policy": retry_policy} if retry_policy else {}
    mirrors = build_mirrors(route, scope.namespace, scope.registry, gateway_port=scope.gateway_port)
    action |= {"request_mirror_policies": mirrors} if mirrors else {}
    hashed = [policy for ref in clusters for policy in _hash_policies(ref, scope)]
    return ({**action, "hash_policy": hashed} if hashed else action), own_headers


def _share(entry: RouteDestination, cluster: ClusterRef) -> Message:
    share: Message = {"name": cluster.name, "weight": entry.weight, **build_header_operations(entry.headers)}
    if authority := authority_of(entry.headers):
        share["host_rewrite_literal"] = authority
    return share


def _is_revision(ref: ClusterRef, scope: RouteScope) -> bool:
    service = scope.registry.service(ref.host)
    return service is not None and service.revision


def _merge_headers(route: Message, destination: Message) -> Message:
    # A destination's operations come first, as they do where Envoy keeps both apart.
    return {key: [*destination.get(key, ()), *route.get(key, ())] for key in sorted({*route, *destination})}


def _rewrite(rewrite: Rewrite) -> Message:
    built: Message = {}
    if rewrite.uriRegexRewrite is not None:
        pattern = {"regex": rewrite.uriRegexRewrite.match}
        built["regex_rewrite"] = {"pattern": pattern, "substitution": rewrite.uriRegexRewrite.rewrite}
    elif rewrite.uri:
        # For an exact or regular-expression match Envoy replaces what matched: the whole path.
        built["prefix_rewrite"] = rewrite.uri
    if rewrite.authority:
        built["host_rewrite_literal"] = rewrite.authority
    return built


def _redirect(redirect: Redirect, scope: RouteScope) -> Message:
    code = _REDIRECT_CODES.get(redirect.redirectCode)
    if code is None:
        allowed = ", ".join(str(known) for known in _REDIRECT_CODES if known)
        raise UserError("InvalidRedirect", f"redirect.redirectCode = {redirect.redirectCode}, must be one of {allowed}")
    built: Message = {"response_code": code}
    if redirect.uri.startswith(_PATH_PREFIX):
        built["prefix_rewrite"] = redirect.uri.removeprefix(_PATH_PREFIX)
    elif redirect.uri:
        built["path_redirect"] = redirect.uri
    elif redirect.prefixRewrite:
        built["prefix_rewrite"] = redirect.prefixRewrite
    if redirect.authority:
        built["host_redirect"] = redirect.authority
    if redirect.scheme:
        built["scheme_redirect"] = redirect.scheme
    if redirect.port is not None:
        built["port_redirect"] = redirect.port
    elif redirect.derivePort == "FROM_REQUEST_PORT":
        built["port_redirect"] = scope.gateway_port
    return built


def _direct_response(response: DirectResponse) -> Message:
    if response.status not in _STATUS_CODES:
        raise UserError("InvalidResponse", f"directResponse.status = {response.status}, must be in [200, 599]")
    body = response.body
    if body is None or (body.string is None and body.bytes is None):
        return {"status": response.status}
    content = {"inline_string": body.string} if body.string is not None else {"inline_bytes": body.bytes}
    return {"status": response.status, "body": content}


def _hash_policies(ref: ClusterRef, scope: RouteScope) -> list[Message]:
    rule = scope.registry.rule(ref.host)
    subset = rule.subset(ref.subset)
    for policy in (subset.trafficPolicy if subset else None, rule.policy):
        balancer = policy.loadBalancer if policy else None
        if balancer and (wanted := balancer.consistentHash):
            return [_hash_policy(wanted)]
    return []


def _hash_policy(wanted: ConsistentHash) -> Message:
    if wanted.httpHeaderName:
        return {"header": {"header_name": wanted.httpHeaderName}}
    if wanted.httpQueryParameterName:
        return {"query_parameter": {"name": wanted.httpQueryParameterName}}
    if wanted.httpCookie is not None:
        cookie: Message = {"name": wanted.httpCookie.name}
        if wanted.httpCookie.path:
            cookie["path"] = wanted.httpCookie.path
        if wanted.httpCookie.ttl:
            cookie["ttl"] = build_duration("consistentHash.httpCookie.ttl", wanted.httpCookie.ttl)
        return {"cookie": cookie}
    return {"connection_properties": {"source_ip": True}}
