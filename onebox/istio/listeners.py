"""Envoy's two listeners (pure). They never change while Envoy runs; route tables and clusters do."""

from __future__ import annotations

from onebox.istio.registry import Listener
from onebox.istio.xds import (
    CONNECTION_MANAGER,
    CORS,
    CORS_FILTER,
    FAULT,
    FAULT_FILTER,
    LISTENER,
    ROUTER,
    Message,
    any_of,
    file_source,
)

LOOPBACK = "127.0.0.1"
IDLE_TIMEOUT = "3600s"
"""A connection without requests is closed after this; Envoy's default, written since others depend on knowing it."""
SERVER_NAME = "istio-envoy"
"""The `server` header of answers, as Istio's gateway sends it."""


def build_listener(listener: Listener, *, port: int, routes_path: str) -> Message:
    """A listener on loopback for HTTP/1.1 and h2c, with its routes in the file at `routes_path`."""
    return any_of(
        LISTENER,
        {
            "name": listener.value,
            "address": {"socket_address": {"address": LOOPBACK, "port_value": port}},
            # With it, a second Envoy on the same port would silently take half of the connections.
            "enable_reuse_port": False,
            "filter_chains": [
                {
                    "filters": [
                        {
                            "name": "envoy.filters.network.http_connection_manager",
                            "typed_config": any_of(CONNECTION_MANAGER, _connection_manager(listener, routes_path)),
                        }
                    ]
                }
            ],
        },
    )


def _connection_manager(listener: Listener, routes_path: str) -> Message:
    return {
        "stat_prefix": listener.value,
        "codec_type": "AUTO",
        "server_name": SERVER_NAME,
        "rds": {"route_config_name": listener.value, "config_source": file_source(routes_path)},
        "http_filters": [
            {"name": CORS_FILTER, "typed_config": any_of(CORS)},
            {"name": FAULT_FILTER, "typed_config": any_of(FAULT)},
            {"name": "envoy.filters.http.router", "typed_config": any_of(ROUTER)},
        ],
        # A model may think for as long as its revision allows: the queue-proxy keeps that time, nobody here does.
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        "common_http_protocol_options": {"idle_timeout": IDLE_TIMEOUT},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "use_remote_address": True,
        "normalize_path": True,
    }
