"""A predictor over HTTP: V1, or V2 as JSON or in binary form; over connections that are kept."""

from __future__ import annotations

import ssl
from typing import Any

from ladle.clock import Clock
from ladle.errors import InvalidInput, StatusError
from ladle.protocol.json import decode, encode
from ladle.protocol.v2_client import decode_response, encode_request
from ladle.server.http.client import ClientPool, ResponseHead
from ladle.transformer.attempts import Attempts, NotReached, failure
from ladle.transformer.deadlines import HEADER, header_value
from ladle.transformer.messages import Prediction, Question
from ladle.transformer.settings import PredictorSettings, Protocol
from ladle.transformer.tls import client_context, distrust, no_tls

ANSWER_BYTES_MAX = 1024 * 1024 * 1024
"""The limit of our own server's bodies."""
IDLE_CONNECTIONS_MAX = 100
"""Kept for the next request; as many as a pod of Knative answers at once by default."""
_JSON_LENGTH = "inference-header-content-length"
_KEPT = ("retry-after", "www-authenticate")
"""Headers of a refusal that say what to do about it."""
_REPEATED = frozenset({"connection", "content-length", "content-type", "date", "server", "transfer-encoding"})


class RestPredictor:
    """Asks over HTTP/1.1. Use within one event loop."""

    def __init__(self, settings: PredictorSettings, *, clock: Clock, attempts: Attempts) -> None:
        self._settings = settings
        self._clock = clock
        self._attempts = attempts
        host, port = settings.address
        context = client_context(settings.authorities) if settings.tls else None
        self._pool = ClientPool(
            host, port, None, idle_max=IDLE_CONNECTIONS_MAX, tls=context, server_name=_server_name(settings)
        )

    async def ask(self, question: Question) -> Prediction:
        """See messages.Predictor."""
        path, body, json_length = self._encode(question)
        kept = {"host": self._settings.authority, **question.headers}
        if json_length is not None:
            kept[_JSON_LENGTH] = str(json_length)
        kind = "application/json" if json_length is None else "application/octet-stream"

        async def once() -> Prediction:
            left = header_value(question.deadline_s - self._clock.monotonic_s())
            headers = {**kept, "content-type": kind, HEADER: left, "content-length": str(len(body))}
            return self._decode(*await self._exchange(_head(path, headers) + body))

        return await self._attempts.run(once, question.deadline_s)

    async def close(self) -> None:
        """Closes idle connections."""
        self._pool.close()

    def _encode(self, question: Question) -> tuple[str, bytes, int | None]:
        if self._settings.protocol is Protocol.V1:
            return f"/v1/models/{question.model_name}:predict", encode(question.payload), None
        body, json_length = encode_request(
            question.tensors, request_id=question.id, parameters=question.parameters, binary=self._settings.binary
        )
        return f"/v2/models/{question.model_name}/infer", body, json_length

    async def _exchange(self, message: bytes) -> tuple[ResponseHead, bytes]:
        try:
            connection = await self._pool.connection()
        except ssl.SSLCertVerificationError as error:
            raise distrust(self._settings.host, error.verify_message) from error
        except ssl.SSLError as error:
            raise no_tls(self._settings.host, str(error.reason or error)) from error
        except OSError as error:
            raise NotReached(str(error)) from error
        finished = False
        try:
            head = await connection.request(message, body=None, chunked=False, head_only=False)
            pieces, size = [], 0
            async for piece in connection.read():
                pieces.append(piece)
                size += len(piece)
                if size > ANSWER_BYTES_MAX:
                    raise failure(
                        502, f"predictor {self._settings.host} answered with more than {ANSWER_BYTES_MAX} bytes"
                    )
            finished = True
        except OSError as error:
            # Sent, perhaps seen, perhaps half done: nobody may ask again.
            raise failure(502, f"predictor {self._settings.host} broke off: {error}") from error
        finally:
            # A deadline that passes ends the connection, and with it the predictor's work for it.
            if finished:
                connection.release()
            else:
                connection.close()
        return head, b"".join(pieces)

    def _decode(self, head: ResponseHead, body: bytes) -> Prediction:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        if not 200 <= head.status < 300:
            raise self._refusal(head.status, headers, body)
        own = {name: value for name, value in headers.items() if name not in _REPEATED}
        try:
            if self._settings.protocol is Protocol.V1:
                return Prediction(payload=decode(body), headers=own)
            length = headers.get(_JSON_LENGTH)
            response = decode_response(body, int(length) if length is not None else None)
        except (InvalidInput, ValueError) as error:
            raise failure(502, f"predictor {self._settings.host} answered what is no answer: {error}") from error
        return Prediction(response=response, headers=own)

    def _refusal(self, status: int, headers: dict[str, str], body: bytes) -> StatusError:
        if not 400 <= status <= 599:
            return failure(502, f"predictor {self._settings.host} answered with status {status}")
        return StatusError(status, _json_or_text(body), {name: headers[name] for name in _KEPT if name in headers})


def _json_or_text(body: bytes) -> Any:
    try:
        return decode(body)
    except InvalidInput:
        return {"error": body.decode("utf-8", "replace").strip()}


def _server_name(settings: PredictorSettings) -> str | None:
    return settings.server_name if settings.tls else None


def _head(path: str, headers: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
