"""The way of events to their sink: a bounded queue, a few senders, and a count of what became of each event.

A request never waits for its events. Where the sink is slower than the requests, or away, events are dropped, counted, and
spoken of in the log; nothing is sent twice, but for what surely was not seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter as Counts

from ladle.clock import Clock
from ladle.log import get_logger
from ladle.server.cluster_names import is_cluster_name
from ladle.server.http.client import ClientPool, NeverAnsweredError
from ladle.server.metrics import Counter
from ladle.server.payload_events import PayloadEvent, PayloadLogSettings, port_of
from ladle.server.queue_settings import BadSetting

QUEUE_EVENTS_MAX = 100
"""KServe's logger has a queue of as many, and then grows without bound."""
QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""Bodies that wait, together. A guess: a hundred events of an image each."""
SENDERS = 5
"""Events under way at once; as many workers as KServe's logger has."""
DELIVERY_S = 10.0
"""One delivery, from connecting to the end of the sink's answer. A guess."""
DRAIN_S = 5.0
"""What waits when the server ends gets this long. A guess; pods have 30 s for all of their end."""
REPORT_PERIOD_S = 10.0
"""Between two lines about events that did not arrive."""
_ANSWER_BYTES_MAX = 64 * 1024
"""What is read of a sink's answer, which nobody wants; a longer one costs the connection."""

_ENDED = "the server ended"
SENT, FAILED, DROPPED = "sent", "failed", "dropped"

log = get_logger(__name__)


class Delivery:
    """Sends events to one sink. Lives in a task group, which its tasks belong to."""

    def __init__(
        self, settings: PayloadLogSettings, outcomes: Counter, tasks: asyncio.TaskGroup, *, clock: Clock
    ) -> None:
        """`outcomes` counts by one label: sent, failed, dropped. BadSetting where the CA file cannot be read."""
        self._clock = clock
        self._outcomes = outcomes
        self._sink = f"{settings.url.scheme}://{settings.url.netloc}"
        self._head = _head_of(settings)
        self._pool = _pool_of(settings)
        self._queue: asyncio.Queue[PayloadEvent] = asyncio.Queue(QUEUE_EVENTS_MAX)
        self._queued_bytes = 0
        self._lost: Counts[str] = Counts()
        self._reported_s = -REPORT_PERIOD_S
        self._senders = [tasks.create_task(self._send_all()) for _ in range(SENDERS)]

    def put(self, event: PayloadEvent) -> None:
        """Queues the event, or drops it where there is no room."""
        if self._queue.full() or self._queued_bytes + len(event.body) > QUEUE_BYTES_MAX:
            self.drop("the queue is full")
            return
        self._queued_bytes += len(event.body)
        self._queue.put_nowait(event)

    def drop(self, why: str) -> None:
        """Counts an event that is not sent at all."""
        self._lose(DROPPED, why)

    async def drain(self) -> None:
        """Gives what waits a last chance, for DRAIN_S; the rest is dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._queue.join()
        while not self._queue.empty():
            self._queue.get_nowait()
            self.drop(_ENDED)

    def close(self) -> None:
        """Ends at once."""
        self._report()
        self._reported_s = -REPORT_PERIOD_S  # What is lost now is said at once: there is no later.
        for sender in self._senders:
            sender.cancel()
        self._pool.close()

    async def _send_all(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._send(event)
            except asyncio.CancelledError:
                self.drop(_ENDED)
                raise
            finally:
                self._queued_bytes -= len(event.body)
                self._queue.task_done()

    async def _send(self, event: PayloadEvent) -> None:
        try:
            async with asyncio.timeout(DELIVERY_S):
                try:
                    status = await self._post(event, fresh=False)
                except NeverAnsweredError:  # A kept connection that the sink closed meanwhile.
                    status = await self._post(event, fresh=True)
        except TimeoutError:
            self._lose(FAILED, f"no answer within {DELIVERY_S:g} s")
        except OSError as error:
            self._lose(FAILED, str(error) or repr(error))
        else:
            if 200 <= status < 300:
                self._outcomes.add((SENT,))
            else:
                self._lose(FAILED, f"the sink answered {status}")

    async def _post(self, event: PayloadEvent, *, fresh: bool) -> int:
        lines = [b"%b: %b\r\n" % header for header in event.headers]
        head = b"%b%bcontent-length: %d\r\n\r\n" % (self._head, b"".join(lines), len(event.body))
        connection = await self._pool.connection(fresh=fresh)
        finished = False
        try:
            answer = await connection.request(head + event.body, body=None, chunked=False, head_only=False)
            size = 0
            async for piece in connection.read():
                size += len(piece)
                if size > _ANSWER_BYTES_MAX:
                    return answer.status
            finished = True
            return answer.status
        finally:
            if finished:
                connection.release()
            else:
                connection.close()

    def _lose(self, outcome: str, why: str) -> None:
        self._outcomes.add((outcome,))
        self._lost[why] += 1
        now_s = self._clock.monotonic_s()
        if now_s - self._reported_s >= REPORT_PERIOD_S:  # A sink that is away must not fill the log.
            self._reported_s = now_s
            self._report()

    def _report(self) -> None:
        if self._lost:
            log.warning("payload events lost", sink=self._sink, events=dict(self._lost))
            self._lost.clear()


def _head_of(settings: PayloadLogSettings) -> bytes:
    url = settings.url
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = url.netloc.rpartition("@")[2]
    return f"POST {target} HTTP/1.1\r\nhost: {host}\r\n".encode("latin-1", "replace")


def _pool_of(settings: PayloadLogSettings) -> ClientPool:
    url = settings.url
    host, port = url.hostname or "", port_of(url)
    if settings.gateway and url.scheme == "http" and is_cluster_name(host):
        host, _, gateway_port = settings.gateway.rpartition(":")
        port = int(gateway_port)
    return ClientPool(host, port, None, idle_max=SENDERS, tls=_tls_of(settings), server_name=_server_name(settings))


def _server_name(settings: PayloadLogSettings) -> str | None:
    return settings.url.hostname if settings.url.scheme == "https" else None


def _tls_of(settings: PayloadLogSettings) -> ssl.SSLContext | None:
    if settings.url.scheme != "https":
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:
        raise BadSetting(f"--logger-ca-cert-file = {settings.ca_file}: {error}") from None
    if not settings.verifies:  # --logger-tls-skip-verify true: the user's own word.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
