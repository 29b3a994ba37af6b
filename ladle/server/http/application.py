"""What a server needs of whoever decides about its requests, and the simplest such decider."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, Protocol, TypeAlias

from ladle.log import get_logger
from ladle.server.http.messages import Request, Response

Answer: TypeAlias = Response | Coroutine[Any, Any, Response]
"""A response, or the way to get one. Most are there at once, and a task for each would cost more than they do."""
Handler: TypeAlias = Callable[[Request], Answer]

log = get_logger(__name__)


class Exchange(Protocol):
    """One request and the one response to it."""

    request: Request
    visit: object | None
    """Whatever the application keeps with this request."""

    def respond(self, response: Response) -> None:
        """Sends the answer; a second one, or one to a client that is gone, is dropped."""
        ...


class Application(Protocol):
    """Decides about requests. Called in the loop; must not block, must not raise."""

    def begin(self, exchange: Exchange) -> None:
        """The headers are there, the body perhaps not."""
        ...

    def handle(self, exchange: Exchange) -> None:
        """The request is complete, or its body streams. Must lead to `respond`, now or later."""
        ...

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone, or the server refused the rest of its request; no answer is wanted any more."""
        ...


def internal_error(error: BaseException) -> Response:
    """A bug's answer, in KServe's form; the traceback goes to the log."""
    log.error("request failed", error=repr(error), traceback="".join(traceback.format_exception(error)))
    return Response(500, b'{"error":"Internal server error"}')


class Dispatcher:
    """The simplest application: a handler for each request, tasks for those that take time."""

    def __init__(self, handler: Handler, tasks: asyncio.TaskGroup) -> None:
        self._handler = handler
        self._tasks = tasks

    def begin(self, exchange: Exchange) -> None:
        pass

    def handle(self, exchange: Exchange) -> None:
        try:
            answer = self._handler(exchange.request)
        except Exception as error:  # noqa: BLE001  # The top of a request: a bug in one must not end the server.
            answer = internal_error(error)
        if isinstance(answer, Response):
            exchange.respond(answer)
        else:
            exchange.visit = self._tasks.create_task(self._finish(exchange, answer))

    def abandon(self, exchange: Exchange) -> None:
        if isinstance(exchange.visit, asyncio.Task):
            exchange.visit.cancel()

    async def _finish(self, exchange: Exchange, answer: Coroutine[Any, Any, Response]) -> None:
        try:
            response = await answer
        except Exception as error:  # noqa: BLE001  # The top of a request, as above.
            response = internal_error(error)
        exchange.respond(response)


def is_pending(answer: Any) -> bool:
    """Whether this is a coroutine still to be awaited rather than the value itself."""
    return type(answer) is CoroutineType
