"""One line of JSON for each request: who asked what, what became of it, how long it took. Off unless asked for.

Wraps the application of an HTTP server, and so costs nothing where it is off. No bodies, no query, no headers but the
ids that requests are followed by; health checks and the ingress's probes are left out, as KServe's logger does.
"""

from __future__ import annotations

from typing import Any

from ladle.clock import Clock
from ladle.log import Logger, get_logger
from ladle.server.http.application import Answer, Application, Exchange, Handler
from ladle.server.http.messages import ByteStream, Request, Response
from ladle.server.probes import is_health_check, is_ingress_probe
from ladle.server.trace import parse_trace

CLIENT_GONE = 499
"""nginx's status of a request whose client did not wait for the answer."""
ID_LENGTH_MAX = 128
"""Longest request id in a line; a UUID has 36. A guess."""
_MODEL_PLACES = {("v1", "models"): 3, ("v2", "models"): 3, ("v2", "repository"): 4}
"""Where a path has the name of a model, by how it begins."""


class AccessLog:
    """Logs the requests of one server."""

    def __init__(self, clock: Clock, log: Logger | None = None) -> None:
        self._clock = clock
        self._log = log or get_logger("ladle.access")
        self._begun_s: dict[int, float] = {}
        """When the handler of a request began, by the request's identity: it lives as long as its exchange."""

    def timed(self, handler: Handler) -> Handler:
        """The handler, and a note of when each request got to it."""

        def handle(request: Request) -> Answer:
            if id(request) in self._begun_s:
                self._begun_s[id(request)] = self._clock.monotonic_s()
            return handler(request)

        return handle

    def around(self, application: Application) -> Application:
        """The application, with a line for each of its requests."""
        return _LoggedApplication(self, application)

    def begin(self, request: Request) -> None:
        self._begun_s[id(request)] = 0.0

    def end(self, request: Request, status: int, sent_bytes: int) -> None:
        """Writes the line of a request that was begun."""
        now_s, begun_s = self._clock.monotonic_s(), self._begun_s.pop(id(request))
        path = request.path
        self.write(
            method=request.method,
            path=path,
            status=status,
            bytes=sent_bytes,
            duration_s=now_s - request.arrived_s,
            queue_s=begun_s - request.arrived_s if begun_s else None,
            model=model_of(path),
            request_id=request.header(b"x-request-id"),
            traceparent=request.header(b"traceparent"),
        )

    def write(
        self, *, duration_s: float, queue_s: float | None, request_id: str, traceparent: str, **fields: Any
    ) -> None:
        """One line; what is not known is left out."""
        trace = parse_trace(traceparent)
        known = {
            **fields,
            "duration_s": round(duration_s, 6),
            "queue_s": round(queue_s, 6) if queue_s is not None else None,
            "request_id": request_id[:ID_LENGTH_MAX],
            "trace_id": trace.trace_id if trace is not None else None,
        }
        self._log.info("request", **{name: value for name, value in known.items() if value not in (None, "")})


def model_of(path: str) -> str:
    """The model that a path names; "" for none."""
    parts = path.split("/")
    place = _MODEL_PLACES.get((parts[1], parts[2])) if len(parts) > 3 else None
    return parts[place].partition(":")[0] if place is not None and place < len(parts) else ""


class _LoggedExchange:
    """An exchange whose answer is written down. The one that it stands for keeps it as its visit."""

    __slots__ = ("_inner", "_log", "_open", "request", "visit")

    def __init__(self, log: AccessLog, inner: Exchange) -> None:
        self.request = inner.request
        self.visit: object | None = None
        self._inner = inner
        self._log = log
        self._open = True
        log.begin(self.request)

    def respond(self, response: Response) -> None:
        if response.stream is not None:
            response.stream = _CountedStream(self, response.status, response.stream)
        else:
            body = response.body
            self.close(response.status, sum(map(len, body)) if isinstance(body, tuple) else len(body))
        self._inner.respond(response)

    def close(self, status: int, sent_bytes: int) -> None:
        """The line is due; only the first end counts."""
        if self._open:
            self._open = False
            self._inner.visit = None  # A cycle for each request would keep the garbage collector busy.
            self._log.end(self.request, status, sent_bytes)


class _CountedStream:
    """A stream that says at its end how long it was."""

    __slots__ = ("_bytes", "_exchange", "_inner", "_status")

    def __init__(self, exchange: _LoggedExchange, status: int, inner: ByteStream) -> None:
        self._exchange = exchange
        self._status = status
        self._inner = inner
        self._bytes = 0

    def __aiter__(self) -> _CountedStream:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._inner.__anext__()
        self._bytes += len(piece)
        return piece

    async def aclose(self) -> None:
        self._exchange.close(self._status, self._bytes)
        await self._inner.aclose()


class _LoggedApplication:
    """An Application around another one."""

    def __init__(self, log: AccessLog, inner: Application) -> None:
        self._log = log
        self._inner = inner

    def begin(self, exchange: Exchange) -> None:
        request = exchange.request
        if is_health_check(request) or is_ingress_probe(request):
            self._inner.begin(exchange)
            return
        logged = _LoggedExchange(self._log, exchange)
        exchange.visit = logged
        self._inner.begin(logged)

    def handle(self, exchange: Exchange) -> None:
        self._inner.handle(_logged(exchange))

    def abandon(self, exchange: Exchange) -> None:
        logged = _logged(exchange)
        self._inner.abandon(logged)
        if isinstance(logged, _LoggedExchange):
            logged.close(CLIENT_GONE, 0)


def _logged(exchange: Exchange) -> Exchange:
    return exchange.visit if isinstance(exchange.visit, _LoggedExchange) else exchange
