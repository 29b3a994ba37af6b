"""Why Envoy refuses something, in its own words: it validates a configuration that holds just that, and says why not."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

import orjson

from onebox.istio.bootstrap import envoy_binary
from onebox.istio.xds import CONNECTION_MANAGER, ROUTER, Message, any_of, render_message

_TIMEOUT_S = 10.0
"""Validation takes 0.1 s; more on a busy machine. A guess."""
_UNKNOWN = "Envoy refused it without a reason"
_REASON = re.compile(r"error initializing configuration '[^']*': (.*)", re.DOTALL)
_CONSTRAINT = re.compile(r"Proto constraint validation failed \((.*)\)\s*$", re.DOTALL)


async def explain_virtual_host(virtual_host: bytes) -> str:
    """Why Envoy refuses this virtual host."""
    routes = {"name": "explain", "virtual_hosts": [orjson.loads(virtual_host)], "validate_clusters": False}
    router = {"name": "envoy.filters.http.router", "typed_config": any_of(ROUTER)}
    manager = any_of(CONNECTION_MANAGER, {"stat_prefix": "x", "route_config": routes, "http_filters": [router]})
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return await _validate({"listeners": [{"name": "x", "address": address, "filter_chains": [chain]}]})


async def explain_cluster(cluster: bytes) -> str:
    """Why Envoy refuses this cluster."""
    message = orjson.loads(cluster)
    message.pop("@type")
    return await _validate({"clusters": [message]})


async def _validate(resources: Message) -> str:
    with tempfile.TemporaryDirectory(prefix="ladle-envoy-") as directory:
        path = Path(directory) / "bootstrap.json"
        path.write_bytes(render_message({"static_resources": resources}))
        process = await asyncio.create_subprocess_exec(
            *(str(envoy_binary()), "--mode", "validate", "-c", str(path), "-l", "critical"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                _, errors = await process.communicate()
        except TimeoutError:
            return _UNKNOWN
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return parse_reason(errors.decode(errors="replace"))


def parse_reason(log: str) -> str:
    """The reason in Envoy's log, without the configuration that it repeats."""
    found = _REASON.search(log)
    if found is None:
        return _UNKNOWN
    constraint = _CONSTRAINT.search(found[1])
    reason = constraint[1].split(" | caused by ")[-1] if constraint else found[1]
    return " ".join(reason.split())
