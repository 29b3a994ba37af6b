"""grpc.health.v1: whether the server, or the inference service, is ready. Kubernetes' gRPC probes ask this."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from ladle.protocol.grpc.schema import HEALTH_SERVICE, INFERENCE_SERVICE, message_class
from ladle.server.grpc.inside import CallsInside

_WATCH_PERIOD_S = 1.0
"""How often a watched status is looked at. A guess; watchers want changes, not moments."""
_Request = message_class("grpc.health.v1.HealthCheckRequest")
_Response = message_class("grpc.health.v1.HealthCheckResponse")
_SERVICES = ("", INFERENCE_SERVICE)


class HealthService:
    """SERVING while `ready` says so; a draining server is not."""

    def __init__(self, ready: Callable[[], bool], inside: CallsInside) -> None:
        self._ready = ready
        self._inside = inside

    def handlers(self) -> grpc.GenericRpcHandler:
        codec = {"request_deserializer": _Request.FromString, "response_serializer": _Response.SerializeToString}
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._inside.counted(self._check), **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, **codec),
        }
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, methods)

    def _status(self) -> str:
        return "SERVING" if self._ready() else "NOT_SERVING"

    async def _check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        if request.service not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service}")
        return _Response(status=self._status())

    async def _watch(self, request: Any, _: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        known = request.service in _SERVICES
        last = ""
        while True:
            status = self._status() if known else "SERVICE_UNKNOWN"
            if status != last:
                last = status
                yield _Response(status=status)
            await asyncio.sleep(_WATCH_PERIOD_S)
