"""The access log's line for each unary call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from ladle.clock import Clock
from ladle.server.access_log import AccessLog
from ladle.server.grpc.inference import queue_time_s


class LoggedCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types.
    """Writes a line for each call that has one answer; streams of health and reflection have none."""

    def __init__(self, log: AccessLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The handler of the call, logged."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        path, inner = handler_call_details.method, handler.unary_unary

        async def call(message: Any, context: grpc.aio.ServicerContext) -> Any:
            arrived_s, answer = self._clock.monotonic_s(), None
            try:
                answer = await inner(message, context)
                return answer
            finally:
                self._write(path, message, answer, context, self._clock.monotonic_s() - arrived_s)

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )

    def _write(
        self, path: str, message: Any, answer: Any, context: grpc.aio.ServicerContext, duration_s: float
    ) -> None:
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        request = message[0] if isinstance(message, tuple) else message
        self._log.write(
            method="gRPC",
            path=path,
            status=_code(context, answered=answer is not None),
            bytes=answer.ByteSize() if answer is not None else 0,
            duration_s=duration_s,
            queue_s=queue_time_s.get(),
            model=getattr(request, "model_name", "") or getattr(request, "name", ""),
            request_id=headers.get("x-request-id", ""),
            traceparent=headers.get("traceparent", ""),
        )


def _code(context: grpc.aio.ServicerContext, *, answered: bool) -> str:
    if answered:
        return "OK"
    code = context.code()
    if isinstance(code, int):
        code = next((known for known in grpc.StatusCode if known.value[0] == code), grpc.StatusCode.UNKNOWN)
    # Neither answered nor refused: the client went away, or the call broke off.
    refused = code is not None and code is not grpc.StatusCode.OK
    return str(code.name if refused else grpc.StatusCode.CANCELLED.name)
