"""A registry for tests: what is named is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.istio import DestinationRule, HttpRoute
from controller.base.json import JsonObject
from onebox.istio.registry import RegisteredService, Rule, Rules, parse_service
from onebox.istio.routes import RouteScope
from tests.onebox.istio.objects import NAMESPACE, local_gateway_service


class Known:
    """Services by host, rules, and routes of hosts on the local listener."""

    def __init__(
        self,
        *services: JsonObject,
        rules: Sequence[JsonObject] = (),
        local: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        parsed = [parse_service(found) for found in (*services, local_gateway_service())]
        self._services = {found.host: found for found in parsed}
        self._rules = Rules()
        for number, rule in enumerate(rules):
            self._rules.set((NAMESPACE, str(number)), DestinationRule.parse(rule))
        self._local = {host: [HttpRoute.parse(route) for route in routes] for host, routes in (local or {}).items()}

    def service(self, host: str) -> RegisteredService | None:
        return self._services.get(host)

    def rule(self, host: str) -> Rule:
        return self._rules.of(host)

    def local_routes(self, host: str) -> Sequence[HttpRoute]:
        return self._local.get(host, ())


def scope(*services: JsonObject, rules: Sequence[JsonObject] = ()) -> RouteScope:
    return RouteScope(namespace=NAMESPACE, gateway_port=80, registry=Known(*services, rules=rules))
