"""One pass through Envoy instead of two, for routes that lead to the cluster-local gateway (pure).

KServe's VirtualService of an InferenceService sets the Host to that of the predictor and sends the request to the local
gateway, where the predictor's own VirtualService sends it to a revision. Both are known here, so the second lookup is done
beforehand: the outer route gets the inner one's destinations, and what a pod sees of Host and headers stays the same.

Where the two do not combine into one route (the inner one looks at the path, rewrites, mirrors, repeats by conditions of
its own), nothing is changed and the request takes both hops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from controller.api.istio import (
    Destination,
    HeaderOperations,
    Headers,
    HttpMatch,
    HttpRoute,
    PortSelector,
    Rewrite,
    RouteDestination,
)
from onebox.istio.authority import holds
from onebox.istio.headers import authority_of, is_authority
from onebox.istio.registry import Listener, Registry, resolve_destination, resolve_host
from onebox.knative.duration import format_duration, parse_duration_s

ROUTES_MAX = 8
"""Routes that one route may become: Knative's probe and ordinary route for each of a few alternatives. A guess that
keeps route tables from growing by products."""


def collapse(routes: Iterable[HttpRoute], namespace: str, registry: Registry) -> tuple[HttpRoute, ...]:
    """The same routes, with those that lead to the local gateway replaced by what it would do with the request."""
    found: list[HttpRoute] = []
    for route in routes:
        host = hop_host(route, namespace, registry)
        inner = registry.local_routes(host) if host else ()
        found += _combine(route, inner, host) or [route]
    return tuple(found)


def complete_names(
    routes: Iterable[HttpRoute], namespace: str, registry: Registry, *, gateway_port: int
) -> tuple[HttpRoute, ...]:
    """The same routes with destinations by full name and port, so that they mean the same in every namespace."""
    return tuple(
        route.replace(
            route=[
                entry.replace(destination=_complete(entry.destination, namespace, registry, gateway_port))
                for entry in route.route
            ]
        )
        for route in routes
    )


def _complete(destination: Destination, namespace: str, registry: Registry, gateway_port: int) -> Destination:
    ref = resolve_destination(destination, namespace, registry, gateway_port=gateway_port)
    return Destination(host=ref.host, subset=ref.subset, port=PortSelector(number=ref.port))


def hop_host(route: HttpRoute, namespace: str, registry: Registry) -> str:
    """The Host under which a request arrives at the local gateway again; "" where the route does not lead there."""
    if len(route.route) != 1 or route.redirect or route.directResponse or route.delegate:
        return ""
    destination = route.route[0].destination
    service = registry.service(resolve_host(destination.host, namespace))
    number = destination.port.number if destination.port else 0
    ports = [port for port in service.ports if port.number == number or not number] if service else []
    if len(ports) != 1 or ports[0].listener is not Listener.LOCAL:
        return ""
    rewritten = route.rewrite.authority if route.rewrite else ""
    host = authority_of(route.route[0].headers) or authority_of(route.headers) or rewritten
    return host.lower().partition(":")[0]


def _combine(outer: HttpRoute, inner: Sequence[HttpRoute], host: str) -> list[HttpRoute]:
    """The combined routes in order; empty where the two do not combine."""
    combined: list[HttpRoute] = []
    for route in inner:
        conditions = _conditions(route, host, _known_headers(outer))
        if conditions == []:
            continue  # It takes no request to this host.
        matches = _product(outer.match, conditions) if conditions is not None else None
        merged = _merge(outer, route, host) if matches is not None else None
        if matches is None or merged is None or len(combined) == ROUTES_MAX:
            return []
        combined.append(merged.replace(match=matches))
        if conditions is not None and any(not match.headers and not match.withoutHeaders for match in conditions):
            return combined
    # Some request to this host would find no inner route: a 404, which one route cannot say.
    return []


def _known_headers(outer: HttpRoute) -> Mapping[str, str]:
    """What an inner route is certain to see, whatever the client sends."""
    operations = (outer.headers.request, outer.route[0].headers.request)
    return {name.lower(): value for operation in operations for name, value in operation.set.items()}


def _conditions(route: HttpRoute, host: str, known: Mapping[str, str]) -> list[HttpMatch] | None:
    """What a request to `host` must still fulfil to take this route, as alternatives; None where it is not only headers."""
    if not route.match:
        return [HttpMatch()]
    left: list[HttpMatch] = []
    for match in route.match:
        if match.uri or match.scheme or match.method or match.queryParams:
            return None
        headers = {name.lower(): wanted for name, wanted in match.headers.items()}
        verdicts = {holds(wanted, known[name]) for name, wanted in headers.items() if name in known}
        if match.authority is not None:
            verdicts.add(holds(match.authority, host))
        if None in verdicts or any(name.lower() in known for name in match.withoutHeaders):
            return None
        if False in verdicts:
            continue
        unknown = {name: wanted for name, wanted in headers.items() if name not in known}
        left.append(HttpMatch(headers=unknown, withoutHeaders=match.withoutHeaders))
    return left


def _product(outer: Sequence[HttpMatch], inner: Sequence[HttpMatch]) -> list[HttpMatch] | None:
    """Both must hold. None where they speak about the same header, which a match can do once only."""
    if not outer:
        return list(inner) if any(match.headers or match.withoutHeaders for match in inner) else []
    product = []
    for first in outer:
        for second in inner:
            taken = {name.lower() for name in (*first.headers, *first.withoutHeaders)}
            if not taken.isdisjoint(name.lower() for name in (*second.headers, *second.withoutHeaders)):
                return None
            headers = {**first.headers, **second.headers}
            without = {**first.withoutHeaders, **second.withoutHeaders}
            product.append(first.replace(headers=headers, withoutHeaders=without))
    return product


def _merge(outer: HttpRoute, inner: HttpRoute, host: str) -> HttpRoute | None:
    """The outer route with the inner one's destinations; its matches are set by the caller."""
    if not inner.route or inner.redirect or inner.directResponse or inner.delegate or inner.rewrite:
        return None
    if inner.fault or inner.corsPolicy or inner.mirror or inner.mirrors:
        return None
    own = _join(outer.route[0].headers, outer.headers)
    headers = _join(inner.headers, own) if own is not None else None
    if headers is None or not all(_independent(entry, headers) for entry in inner.route):
        return None
    rewrite = (outer.rewrite or Rewrite()).replace(authority=host)
    if any(authority_of(found) for found in (inner.headers, *(entry.headers for entry in inner.route))):
        return None  # The host would be set twice, and the second time may look at the first.
    return outer.replace(
        route=inner.route,
        headers=_without_authority(headers),
        rewrite=rewrite,
        timeout=_shorter(outer.timeout, inner.timeout),
        retries=outer.retries if outer.retries and outer.retries.attempts else inner.retries,
    )


def _join(first: Headers, second: Headers) -> Headers | None:
    """Both sets of operations as one; None where they touch the same header, so that their order would matter."""
    if _touched(first.request) & _touched(second.request) or _touched(first.response) & _touched(second.response):
        return None
    return Headers(
        request=_add(first.request, second.request),
        response=_add(first.response, second.response),
    )


def _add(first: HeaderOperations, second: HeaderOperations) -> HeaderOperations:
    return HeaderOperations(
        set={**first.set, **second.set}, add={**first.add, **second.add}, remove=[*first.remove, *second.remove]
    )


def _touched(operations: HeaderOperations) -> set[str]:
    return {name.lower() for name in (*operations.set, *operations.add, *operations.remove) if not is_authority(name)}


def _independent(entry: RouteDestination, headers: Headers) -> bool:
    return _join(entry.headers, headers) is not None


def _without_authority(headers: Headers) -> Headers:
    request = headers.request
    kept = {name: value for name, value in request.set.items() if not is_authority(name)}
    return headers.replace(request=request.replace(set=kept))


def _shorter(first: str, second: str) -> str:
    """The stricter of two timeouts; "" and 0 mean none. Text that is no duration is left for the translation to refuse."""
    try:
        limits = [seconds for text in (first, second) if text and (seconds := parse_duration_s(text)) > 0]
    except ValueError:
        return first or second
    return format_duration(min(limits)) if limits else ""
