"""Probes of containers: one handler each, and Knative's own meaning of a period of zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controller.base.errors import FieldError
from controller.base.json import JsonObject, JsonView
from onebox.knative.admission import errors

_INT32_MAX = 2**31 - 1
_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")
_PROBE_FIELDS = frozenset(
    {
        *_HANDLERS,
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
        "terminationGracePeriodSeconds",
    }
)


def default_readiness_probe(container: JsonObject, *, serving: bool) -> None:
    """Fills in the probe that the queue-proxy runs: a TCP connection where a serving container has none.

    Port 0 stands for the container's port; period 0 for Knative's aggressive probing.
    """
    if serving:
        probe = container["readinessProbe"] = container.get("readinessProbe") or {}
        if not any(probe.get(handler) is not None for handler in _HANDLERS):
            probe["tcpSocket"] = {"port": 0}
    probe = container.get("readinessProbe")
    if probe is None:
        return
    probe["successThreshold"] = probe.get("successThreshold") or 1
    if probe.get("periodSeconds"):
        probe["failureThreshold"] = probe.get("failureThreshold") or 3
        probe["timeoutSeconds"] = probe.get("timeoutSeconds") or 1


def default_handlers(container: JsonObject) -> None:
    """Writes out what a handler leaves open: port 0, which stands for the container's port, and gRPC's whole server."""
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        probe = container.get(name) or {}
        for handler in ("httpGet", "tcpSocket", "grpc"):
            if probe.get(handler) is not None:
                probe[handler].setdefault("port", 0)
        if probe.get("grpc") is not None:
            probe["grpc"].setdefault("service", "")


def check_probe(probe: JsonView | None, path: str, port_name: str | None) -> Iterator[FieldError]:
    """One handler with a port that exists; `port_name` is that of the serving container's port, None for a sidecar."""
    if probe is None:
        return
    for field in sorted(set(probe) - _PROBE_FIELDS):
        yield errors.forbidden(f"{path}.{field}")
    found = [handler for handler in _HANDLERS if probe.get(handler) is not None]
    yield from errors.exactly_one(path, found, _HANDLERS)
    for handler in ("httpGet", "tcpSocket"):
        if probe.get(handler) is not None:
            yield from _check_port(probe[handler].get("port"), f"{path}.{handler}.port", port_name)


def check_readiness_probe(probe: JsonView | None, path: str, port_name: str | None) -> Iterator[FieldError]:
    """What holds for every probe, and the numbers, which the queue-proxy reads."""
    if probe is None:
        return
    yield from check_probe(probe, path, port_name)
    aggressive = not probe.get("periodSeconds")
    for field, low in (("periodSeconds", 0), ("initialDelaySeconds", 0), ("successThreshold", 1)):
        yield from _check_number(probe, field, path, low)
    for field in ("failureThreshold", "timeoutSeconds"):
        if not aggressive:
            yield from _check_number(probe, field, path, 1)
        elif probe.get(field):
            yield errors.generic(f"{path}.{field}", f"{field} is disallowed when periodSeconds is zero")


def _check_number(probe: JsonView, field: str, path: str, low: int) -> Iterator[FieldError]:
    value = probe.get(field) or 0
    if value < low:
        yield errors.out_of_bounds(f"{path}.{field}", value, low, _INT32_MAX)


def _check_port(port: Any, path: str, port_name: str | None) -> Iterator[FieldError]:
    if port_name is None:
        if not port:
            yield errors.invalid(path, port or 0, "Probe port must be specified")
    elif isinstance(port, str) and port not in ("", port_name):
        yield errors.invalid(path, port, "Probe port must match container port")
