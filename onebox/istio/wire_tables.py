"""Tables of clusters and routes in the form in which Envoy reads them: put together from resources that are encoded once.

A table of hundreds of resources changes by a few at a time; the others are joined as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import orjson

from onebox.istio.registry import Listener
from onebox.istio.wire import ANY, Unencodable, encode_bytes, encode_message, field_number
from onebox.istio.xds import ROUTE_CONFIGURATION, Message

_RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"
_ROUTES = "envoy.config.route.v3.RouteConfiguration"
_VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost"


class WireTable:
    """One table. `frame` makes the response's resources of the encoded parts of the table."""

    def __init__(self, type_: str, frame: Callable[[list[bytes]], list[bytes]]) -> None:
        self._type = type_
        self._frame = frame
        self._encoded: dict[bytes, bytes] = {}

    def unencodable(self, resources: Mapping[str, bytes | None]) -> set[str]:
        """The names of resources that have a value which its field cannot hold. Encodes all others, ahead of `render`."""
        return {name for name, content in resources.items() if content is not None and not self._takes(content)}

    def render(self, version: str, resources: Iterable[bytes]) -> bytes:
        """The content of a file with these resources, each in JSON; Unencodable as above."""
        self._encoded = {content: self._encode(content) for content in resources}
        framed = self._frame(list(self._encoded.values()))
        number = field_number(_RESPONSE, "resources")
        head = encode_message(_RESPONSE, {"version_info": version})
        return b"".join((head, *(encode_bytes(number, resource) for resource in framed)))

    def _takes(self, content: bytes) -> bool:
        try:
            self._encoded[content] = self._encode(content)
        except Unencodable:
            return False
        return True

    def _encode(self, content: bytes) -> bytes:
        known = self._encoded.get(content)
        return encode_message(self._type, orjson.loads(content)) if known is None else known


def cluster_table() -> WireTable:
    """The table of clusters: each is a resource of its own."""
    return WireTable(ANY, lambda clusters: clusters)


def route_table(listener: Listener) -> WireTable:
    """The routes of one listener: one resource, which holds all virtual hosts."""

    def frame(virtual_hosts: list[bytes]) -> list[bytes]:
        number = field_number(_ROUTES, "virtual_hosts")
        head = encode_message(_ROUTES, route_table_head(listener))
        content = b"".join((head, *(encode_bytes(number, host) for host in virtual_hosts)))
        url, value = field_number(ANY, "type_url"), field_number(ANY, "value")
        return [encode_bytes(url, ROUTE_CONFIGURATION.encode()) + encode_bytes(value, content)]

    return WireTable(_VIRTUAL_HOST, frame)


def route_table_head(listener: Listener) -> Message:
    """All of a listener's route table but its virtual hosts."""
    # A Host with a port means the same host: clients of a gateway on port 8080 say it.
    return {"name": listener.value, "ignore_port_in_host_matching": True}
