"""A predictor over gRPC: one channel, tensors as raw bytes, the deadline in the call."""

from __future__ import annotations

import grpc

from ladle.clock import Clock
from ladle.errors import InvalidInput, StatusError
from ladle.protocol.grpc.client_codec import decode_response, encode_request
from ladle.protocol.grpc.schema import INFERENCE_SERVICE, message_class
from ladle.transformer.attempts import Attempts, NotReached, failure
from ladle.transformer.messages import Prediction, Question
from ladle.transformer.settings import PredictorSettings
from ladle.transformer.tls import distrust, no_tls, root_certificates

_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""HTTP statuses that mean the same, as google.rpc.Code lists them; 500 for the others."""
_NOT_SENT = ("failed to connect to all addresses", "DNS resolution failed", "Connection refused")
"""What gRPC's core says where it got no connection: the call did not leave."""
_OWN_DEADLINE = "Deadline Exceeded"
"""What it says where it was our time that ran out, not the predictor's."""
_BROKEN = ("Socket closed", "Connection reset", "recvmsg", "GOAWAY", "Broken pipe", "Stream removed", "EOF")
"""What it says where the connection ended under a call: perhaps seen, perhaps half done."""


_DISTRUST = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed", "is not in peer certificate")
"""What it says where the server's certificate is not one to believe."""
_NO_TLS = "handshake failed"
"""What it says where TLS came to nothing for another reason."""


class GrpcPredictor:
    """Asks over gRPC. Use within one event loop."""

    def __init__(self, settings: PredictorSettings, *, clock: Clock, attempts: Attempts) -> None:
        self._settings = settings
        self._clock = clock
        self._attempts = attempts
        options = [
            ("grpc.max_send_message_length", settings.message_bytes_max),
            ("grpc.max_receive_message_length", settings.message_bytes_max),
            ("grpc.default_authority", settings.authority),
            ("grpc.enable_retries", 0),  # Ours have a budget.
            ("grpc.enable_http_proxy", 0),  # An address that is given is the address.
            # gRPC waits 1 s and longer before it connects anew, a whole cold start.
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        host, port = settings.address
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if settings.tls:
            credentials = grpc.ssl_channel_credentials(root_certificates(settings.authorities))
            self._channel = grpc.aio.secure_channel(target, credentials, options=options)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        self._infer = self._channel.unary_unary(
            f"/{INFERENCE_SERVICE}/ModelInfer",
            request_serializer=message_class("inference.ModelInferRequest").SerializeToString,
            response_deserializer=message_class("inference.ModelInferResponse").FromString,
        )

    async def ask(self, question: Question) -> Prediction:
        """See messages.Predictor."""
        message = encode_request(
            question.model_name, question.tensors, request_id=question.id, parameters=question.parameters
        )
        metadata = tuple((name.lower(), value) for name, value in question.headers.items() if value.isascii())

        async def once() -> Prediction:
            call = self._infer(
                message,
                metadata=metadata,
                timeout=question.deadline_s - self._clock.monotonic_s(),
                wait_for_ready=False,
            )
            try:
                answer = await call
                headers = {key: value for key, value in await call.initial_metadata() if isinstance(value, str)}
            except grpc.aio.AioRpcError as error:
                raise self._failure(error) from error
            try:
                response = decode_response(answer)
            except InvalidInput as error:
                raise failure(502, f"predictor {self._settings.host} answered what is no answer: {error}") from error
            return Prediction(response=response, headers=headers)

        return await self._attempts.run(once, question.deadline_s)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    def _failure(self, error: grpc.aio.AioRpcError) -> Exception:
        code, text = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE and (failed := _tls_failure(self._settings.host, text)) is not None:
            return failed
        if code is grpc.StatusCode.UNAVAILABLE and any(said in text for said in _NOT_SENT):
            return NotReached(text)
        if code is grpc.StatusCode.UNAVAILABLE and any(said in text for said in _BROKEN):
            return failure(502, f"predictor {self._settings.host} broke off: {text}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and text == _OWN_DEADLINE:
            return TimeoutError(text)
        return StatusError(_STATUSES.get(code, 500), {"error": text})


def _tls_failure(host: str, text: str) -> Exception | None:
    """What the text of a connection that was not made says about TLS; None where that is not the reason."""
    if any(said in text for said in _DISTRUST):
        return distrust(host, text)
    return no_tls(host, text) if _NO_TLS in text else None
