"""Probes and lifecycle handlers as Kubernetes describes them. (pure)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from controller.base.json import JsonView


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGet:
    """Success is a status from 200 to 399; redirects are not followed."""

    port: int | str
    path: str = "/"
    tls: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSocket:
    port: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCheck:
    """grpc.health.v1.Health/Check without TLS; success is SERVING."""

    port: int | str
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """Only for preStop."""

    seconds: float


Handler: TypeAlias = HttpGet | TcpSocket | Exec | GrpcCheck | Sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The numbers' defaults are Kubernetes'."""

    handler: Handler
    initial_delay_s: float = 0
    period_s: float = 10
    timeout_s: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_s: int | None = None
    """Grace of the kill that a failed liveness or startup probe causes; None: the pod's own."""


def parse_probe(value: JsonView | None) -> Probe | None:
    """The probe, or None where there is none or it has no handler."""
    handler = parse_handler(value or {})
    if not value or handler is None:
        return None
    grace_s = value.get("terminationGracePeriodSeconds")
    return Probe(
        handler=handler,
        initial_delay_s=float(value.get("initialDelaySeconds") or 0),
        period_s=float(value.get("periodSeconds") or 10),
        timeout_s=float(value.get("timeoutSeconds") or 1),
        success_threshold=int(value.get("successThreshold") or 1),
        failure_threshold=int(value.get("failureThreshold") or 3),
        grace_s=None if grace_s is None else int(grace_s),
    )


def parse_handler(value: JsonView) -> Handler | None:
    """What to do for a probe or a hook; None where nothing is said that this node knows."""
    if found := value.get("httpGet"):
        headers = {item["name"]: item.get("value", "") for item in found.get("httpHeaders") or ()}
        tls = found.get("scheme") == "HTTPS"
        return HttpGet(port=found["port"], path=found.get("path") or "/", tls=tls, headers=headers)
    if found := value.get("tcpSocket"):
        return TcpSocket(port=found["port"])
    if found := value.get("exec"):
        return Exec(command=tuple(found.get("command") or ()))
    if found := value.get("grpc"):
        return GrpcCheck(port=found["port"], service=found.get("service") or "")
    if found := value.get("sleep"):
        return Sleep(seconds=float(found.get("seconds") or 0))
    return None
