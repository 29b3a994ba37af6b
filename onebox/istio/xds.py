"""Envoy's configuration messages as JSON: type names, and the frame of a configuration file.

A message is a plain JSON object in the form that protobuf's JSON mapping gives it. Its shape is not repeated here as types:
the tests parse everything that is built into Envoy's own protobuf classes, and Envoy refuses unknown fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

import orjson

from controller.base.json import JsonObject

Message: TypeAlias = JsonObject
"""One message of Envoy's API in JSON."""

_PREFIX = "type.googleapis.com/"
CLUSTER = f"{_PREFIX}envoy.config.cluster.v3.Cluster"
CLUSTER_LOAD_ASSIGNMENT = f"{_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment"
CONNECTION_MANAGER = f"{_PREFIX}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
CONNECTION_LIMIT = f"{_PREFIX}envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
CORS = f"{_PREFIX}envoy.extensions.filters.http.cors.v3.Cors"
CORS_POLICY = f"{_PREFIX}envoy.extensions.filters.http.cors.v3.CorsPolicy"
FAULT = f"{_PREFIX}envoy.extensions.filters.http.fault.v3.HTTPFault"
HTTP_PROTOCOL_OPTIONS = f"{_PREFIX}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
LISTENER = f"{_PREFIX}envoy.config.listener.v3.Listener"
PREVIOUS_HOSTS = f"{_PREFIX}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
ROUTE_CONFIGURATION = f"{_PREFIX}envoy.config.route.v3.RouteConfiguration"
ROUTER = f"{_PREFIX}envoy.extensions.filters.http.router.v3.Router"

CORS_FILTER = "envoy.filters.http.cors"
FAULT_FILTER = "envoy.filters.http.fault"
HTTP_PROTOCOL_OPTIONS_NAME = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

UINT32_MAX = 2**32 - 1

_VERSION_LENGTH = 16
"""Hexadecimal digits of a file's version: 64 bits of SHA-256, so that two contents never share one by chance."""


def any_of(type_url: str, message: Message | None = None) -> Message:
    """`message` as a google.protobuf.Any."""
    return {"@type": type_url, **(message or {})}


def file_source(path: str) -> Message:
    """A configuration source that is a file; Envoy looks at it whenever it is replaced by a rename."""
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def render_response(resources: Iterable[bytes]) -> tuple[str, bytes]:
    """Version and content of a configuration file that holds these rendered resources.

    The version follows from the content: a restarted process writes the same file, and Envoy's word for the version that it
    accepted says which content that was.
    """
    body = b",".join(resources)
    version = hashlib.sha256(body).hexdigest()[:_VERSION_LENGTH]
    return version, b'{"version_info":"%s","resources":[%s]}\n' % (version.encode(), body)


def render_message(message: Message) -> bytes:
    """`message` as JSON; equal messages give equal bytes."""
    return orjson.dumps(message, option=orjson.OPT_SORT_KEYS)


def render_duration(seconds: float) -> str:
    """`seconds` as protobuf writes a Duration in JSON: `0.5s`."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
