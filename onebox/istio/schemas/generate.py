"""Writes wire.json: `python -m onebox.istio.schemas.generate`, with the package xds-protos installed.

Kept is which number stands for which field of which type, for the messages that clusters and route tables are made of. Run
it again for a newer Envoy, or where a message is missing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

ROOTS = (
    ("envoy.config.cluster.v3.cluster_pb2", "Cluster"),
    ("envoy.config.route.v3.route_pb2", "RouteConfiguration"),
    ("envoy.extensions.filters.http.cors.v3.cors_pb2", "CorsPolicy"),
    ("envoy.extensions.filters.http.fault.v3.fault_pb2", "HTTPFault"),
    ("envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2", "PreviousHostsPredicate"),
    ("envoy.extensions.upstreams.http.v3.http_protocol_options_pb2", "HttpProtocolOptions"),
    ("envoy.service.discovery.v3.discovery_pb2", "DiscoveryResponse"),
)
"""What a table holds, and what stands in it as google.protobuf.Any."""


def main() -> None:
    """Writes the file beside this module."""
    messages: dict[str, Any] = {}
    enums: dict[str, Any] = {}
    wanted = [getattr(import_module(module), name).DESCRIPTOR for module, name in ROOTS]
    while wanted:
        message = wanted.pop()
        if message.full_name in messages:
            continue
        messages[message.full_name] = {field.name: _entry(field) for field in message.fields}
        for field in message.fields:
            if field.message_type is not None:
                wanted.append(field.message_type)
            if field.enum_type is not None:
                enums[field.enum_type.full_name] = {value.name: value.number for value in field.enum_type.values}
    table = {"messages": messages, "enums": enums}
    Path(__file__).with_name("wire.json").write_bytes(orjson.dumps(table, option=orjson.OPT_SORT_KEYS) + b"\n")


def _entry(field: Any) -> list[Any]:
    """[number, type, "repeated" or nothing]; a map is a repeated message of keys and values, as in protobuf itself."""
    kind = type(field)
    names = {getattr(kind, name): name.removeprefix("TYPE_").lower() for name in dir(kind) if name.startswith("TYPE_")}
    type_ = names[field.type]
    if type_ == "message":
        type_ = field.message_type.full_name
        if field.message_type.GetOptions().map_entry:
            return [field.number, type_, "map"]
    elif type_ == "enum":
        type_ = field.enum_type.full_name
    return [field.number, type_, "repeated"] if field.is_repeated else [field.number, type_]


if __name__ == "__main__":
    main()
