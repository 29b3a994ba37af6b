"""What stands between the socket and the container: probes, counting, the breaker, the timeouts, the drain.

In a pod of ours it runs in the server's own process; `runtimes.queueproxy` puts the same code in front of a foreign one.
Texts and codes are those of Knative's queue-proxy. Time in the breaker's queue counts as concurrency and against every
timeout, as there. Two differences: waiting requests are admitted in order, and in process a request takes its slot once
its body has arrived, so that a slow upload does not keep a model from working.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ladle.clock import Clock
from ladle.server.breaker import Breaker
from ladle.server.drain import Drainer
from ladle.server.http.application import Exchange, Handler, internal_error
from ladle.server.http.messages import TEXT, ByteStream, LastWords, Request, Response, text
from ladle.server.probes import health_answer, health_refusal, ingress_answer, is_health_check, is_ingress_probe
from ladle.server.queue_settings import QueueSettings
from ladle.server.run_queue import RunQueue
from ladle.server.stats import ConcurrencyStats

TIMEOUT_TEXT = LastWords(b"request timeout")
_PROMPT_BYTES_MAX = 64 * 1024
"""A body up to here is taken to arrive with its headers; the server's own limits end one that stalls. A guess."""
_PROXIED_HEADER = b"k-proxy-request"
_SWITCHING = 101
Prober = Callable[[], "bool | Coroutine[Any, Any, bool]"]
"""Whether the container is ready, at once or after asking it."""


class QueueProxy:
    """An http.Application that guards a handler."""

    def __init__(
        self, handler: Handler, prober: Prober, tasks: asyncio.TaskGroup, *, settings: QueueSettings, clock: Clock
    ) -> None:
        self.handler = handler
        self.settings = settings
        self.clock = clock
        self.tasks = tasks
        self.loop = asyncio.get_running_loop()
        self.breaker = Breaker(settings.container_concurrency)
        self.stats = ConcurrencyStats(clock.monotonic_s())
        self.drainer = Drainer(clock, quiet_s=settings.drain_quiet_s)
        self.run_queue = RunQueue(self.loop, clock)
        self.first_byte_limit_s = settings.first_byte_limit_s
        self._prober = prober
        self._probe: asyncio.Task[bool] | None = None

    def begin(self, exchange: Exchange) -> None:
        """Counts the request from its headers on; probes are not counted."""
        request = exchange.request
        if not is_health_check(request) and not is_ingress_probe(request):
            visit = exchange.visit = Visit(self, exchange)
            self.drainer.touch(request.arrived_s)
            if self.first_byte_limit_s and _uploads(request):
                visit.watch()

    def handle(self, exchange: Exchange) -> None:
        visit = exchange.visit
        if isinstance(visit, Visit):
            visit.enter()
        else:
            self._answer_probe(exchange)

    def abandon(self, exchange: Exchange) -> None:
        if isinstance(exchange.visit, Visit):
            exchange.visit.abandon()

    def close(self) -> None:
        """Stops a probe that is under way; visits end with their connections."""
        if self._probe is not None:
            self._probe.cancel()

    def _answer_probe(self, exchange: Exchange) -> None:
        draining = self.drainer.draining
        if not is_health_check(exchange.request):
            exchange.respond(ingress_answer(exchange.request, draining=draining))
            return
        refusal = health_refusal(exchange.request, draining=draining)
        if refusal is not None:
            exchange.respond(refusal)
            return
        ready = self._prober()
        if isinstance(ready, bool):
            exchange.respond(health_answer(ready))
        else:
            self.tasks.create_task(self._finish_probe(exchange, ready))

    async def _finish_probe(self, exchange: Exchange, probe: Coroutine[Any, Any, bool]) -> None:
        """One probe runs at a time; who comes meanwhile shares its answer."""
        if self._probe is None or self._probe.done():
            self._probe = self.tasks.create_task(probe)
        else:
            probe.close()
        exchange.respond(health_answer(await asyncio.shield(self._probe)))


def _uploads(request: Request) -> bool:
    """Whether the body may take long enough to arrive that the deadline needs a timer before it has."""
    length = request.headers.get(b"content-length")
    return b"transfer-encoding" in request.headers or (length is not None and int(length) > _PROMPT_BYTES_MAX)


class Visit:
    """One counted request, from its headers to the last byte of its answer. Leaves exactly once, whatever happens."""

    __slots__ = ("_exchange", "_gone", "_proxied", "_proxy", "_task", "_timer", "arrived_s")

    def __init__(self, proxy: QueueProxy, exchange: Exchange) -> None:
        self._proxy = proxy
        self._exchange = exchange
        self._proxied = _PROXIED_HEADER in exchange.request.headers
        self._gone = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.arrived_s = exchange.request.arrived_s
        proxy.stats.arrive(self.arrived_s, self._proxied, proxy.run_queue.unread_s)

    def enter(self) -> None:
        """Asks the breaker in; from here on the first byte's deadline is watched unless it runs at once."""
        proxy = self._proxy
        if not proxy.breaker.enter(self):
            self._respond(text(503, "pending request queue full"))
        elif proxy.breaker.queue_depth:
            self.watch()

    def admit(self) -> None:
        self._proxy.run_queue.put(self, self.arrived_s)

    def run(self) -> None:
        """Lets the handler answer; a slow answer becomes a task."""
        if self._gone:
            return
        proxy = self._proxy
        limit_s = proxy.first_byte_limit_s
        if limit_s and proxy.clock.monotonic_s() - self.arrived_s >= limit_s:
            self._expire()
            return
        try:
            answer = proxy.handler(self._exchange.request)
        except Exception as error:  # noqa: BLE001  # The top of a request: a bug in one must not end the server.
            answer = internal_error(error)
        if isinstance(answer, Response):
            self._complete(answer)
        else:
            self.watch()
            self._task = proxy.tasks.create_task(self._await(answer))
            self._task.add_done_callback(lambda task: self._task_ended(task, answer))

    def abandon(self) -> None:
        """The client is gone: frees the slot at once and stops the work as far as it can be stopped."""
        self._leave()
        if self._task is not None:
            self._task.cancel()

    async def _await(self, answer: Coroutine[Any, Any, Response]) -> None:
        try:
            response = await answer
        except Exception as error:  # noqa: BLE001  # The top of a request, as in `run`.
            response = internal_error(error)
        self._complete(response)

    def _task_ended(self, task: asyncio.Task[None], answer: Coroutine[Any, Any, Response]) -> None:
        answer.close()  # One that was cancelled before its first step was never awaited.
        if task.cancelled() and not self._gone:
            self._respond(internal_error(asyncio.CancelledError("the model cancelled its own request")))

    def _complete(self, response: Response) -> None:
        if response.stream is not None and not self._gone:
            self._stop_watching()
            no_room = response.length is not None or response.status == _SWITCHING
            response.stream = GuardedStream(self, response.stream, sized=no_room)
            self._exchange.respond(response)
        else:
            self._respond(response)

    def _respond(self, response: Response) -> None:
        # Leaving first: the answer may at once bring the next request of the same connection.
        self._leave()
        self._exchange.respond(response)

    def watch(self) -> None:
        limit_s = self._proxy.first_byte_limit_s
        if limit_s and self._timer is None and not self._gone:
            left_s = self.arrived_s + limit_s - self._proxy.clock.monotonic_s()
            self._timer = self._proxy.loop.call_later(max(0.0, left_s), self._expire)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._respond(Response(504, TIMEOUT_TEXT, content_type=TEXT))
        if self._task is not None:
            self._task.cancel()

    def _leave(self) -> None:
        if self._gone:
            return
        self._gone = True
        self._exchange.visit = None  # A cycle for each request would keep the garbage collector busy.
        self._stop_watching()
        self._proxy.stats.depart(self._proxy.clock.monotonic_s(), self._proxied)
        self._proxy.breaker.leave(self)

    def stream_limit_s(self, last_write_s: float) -> float | None:
        """The moment at which a stream that last wrote at `last_write_s` has to end; None where nothing limits it."""
        settings = self._proxy.settings
        limits = []
        if settings.timeout_s:
            limits.append(self.arrived_s + settings.timeout_s)
        if settings.idle_timeout_s:
            limits.append(last_write_s + settings.idle_timeout_s)
        return min(limits, default=None)

    def now_s(self) -> float:
        return self._proxy.clock.monotonic_s()

    def stream_closed(self) -> None:
        self._leave()


class GuardedStream:
    """A stream that leaves the breaker when it ends, and ends with Knative's text where it takes too long.

    The status is sent by then: a client sees 200 and a body that ends in `request timeout`, as Knative's does. Where the
    body's length is announced, or the connection speaks another protocol, there is no room for a text, and the connection
    ends early instead.
    """

    __slots__ = ("_expired", "_inner", "_last_write_s", "_sized", "_visit")

    def __init__(self, visit: Visit, inner: ByteStream, *, sized: bool) -> None:
        self._visit = visit
        self._inner = inner
        self._sized = sized
        self._last_write_s = visit.now_s()
        self._expired = False

    def __aiter__(self) -> GuardedStream:
        return self

    async def __anext__(self) -> bytes:
        if self._expired:
            raise StopAsyncIteration
        limit_s = self._visit.stream_limit_s(self._last_write_s)
        if limit_s is None:
            return await self._inner.__anext__()
        try:
            async with asyncio.timeout(limit_s - self._visit.now_s()) as scope:
                piece = await self._inner.__anext__()
        except TimeoutError:
            if not scope.expired():
                raise
            if self._sized:
                raise ConnectionAbortedError("request timeout") from None
            self._expired = True
            return TIMEOUT_TEXT
        self._last_write_s = self._visit.now_s()
        return piece

    async def aclose(self) -> None:
        self._visit.stream_closed()
        await self._inner.aclose()
