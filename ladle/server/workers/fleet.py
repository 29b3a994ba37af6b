"""A worker's side: what it tells the others, asks of all, and does when one of them asks.

Lines of JSON over a socket pair to the parent:

    {"ask": 7, "what": "load", "model": "a", "timeout_s": 60}   this worker wants something of all, itself among them
    {"do": 3, "what": "load", "model": "a"}                     some worker does
    {"done": 3, "result": ...} or {"done": 3, "error": "..."}   it is done here
    {"answer": 7, "outcomes": [...]}                            all are done, dead, or too late
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from ladle.log import get_logger
from ladle.server.stats import Report
from ladle.server.workers.scoreboard import Scoreboard, WorkerState

LINE_BYTES_MAX = 16 * 1024 * 1024
"""Longest message: metrics of a thousand models are about 2 MB."""
_GRACE_S = 5.0
"""How much later than the parent this side gives up, which then has a bug or is stopped. A guess."""
Outcome: TypeAlias = Mapping[str, Any]
"""`{"result": ...}` or `{"error": text}` of one worker."""

log = get_logger(__name__)


class Worker(Protocol):
    """What a fleet needs of the server in this process."""

    def own_ready(self) -> bool:
        """Whether this process itself could answer."""

    async def perform(self, what: str, model: str) -> Any:
        """Does here what one of the workers asked of all; raises where that fails."""


class Fleet:
    """All workers, as one of them sees them."""

    def __init__(self, board: Scoreboard, index: int, channel: socket.socket, *, unloaded: frozenset[str]) -> None:
        self._board = board
        self._index = index
        self._channel = channel
        self.unloaded = unloaded
        """Models that were let go at run time and are not to be loaded."""
        self._asked: dict[int, asyncio.Future[list[Outcome]]] = {}
        self._last_ask = 0
        self._writer: asyncio.StreamWriter | None = None
        self._worker: Worker | None = None
        self._loaded = False

    async def join(self, worker: Worker, tasks: asyncio.TaskGroup, lost: Callable[[], object]) -> None:
        """From here on others can ask. `lost` is called when the parent is gone."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._channel, limit=LINE_BYTES_MAX)
        self._worker = worker
        tasks.create_task(self._listen(reader, tasks, lost))

    def leave(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def loaded(self) -> None:
        """The models of this worker are there, and it listens."""
        self._loaded = True
        self._note()

    def ready(self) -> bool:
        """Whether the fleet may get requests."""
        self._note()
        return self._board.ready()

    def publish(self, report: Report) -> None:
        self._board.publish(self._index, report)
        self._note()

    def total(self) -> Report:
        return self._board.total()

    def pids(self) -> list[int]:
        return self._board.pids()

    def _note(self) -> None:
        if self._loaded and self._worker is not None:
            ready = self._worker.own_ready()
            self._board.set_state(self._index, WorkerState.READY if ready else WorkerState.NOT_READY)

    async def ask(self, what: str, model: str = "", *, timeout_s: float) -> list[Outcome]:
        """What each worker answered; those that died, or took longer, are not among them."""
        self._last_ask += 1
        number = self._last_ask
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._send({"ask": number, "what": what, "model": model, "timeout_s": timeout_s})
            async with asyncio.timeout(timeout_s + _GRACE_S):
                return await answer
        finally:
            del self._asked[number]

    async def _listen(self, reader: asyncio.StreamReader, tasks: asyncio.TaskGroup, lost: Callable[[], object]) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "do" in message:
                tasks.create_task(self._do(message))
            elif (asked := self._asked.get(message["answer"])) is not None and not asked.done():
                asked.set_result(message["outcomes"])
        log.warning("the parent is gone")
        lost()

    async def _do(self, message: Mapping[str, Any]) -> None:
        assert self._worker is not None, "joined"
        outcome: dict[str, Any] = {"done": message["do"]}
        try:
            outcome["result"] = await self._worker.perform(message["what"], message["model"])
        except Exception as error:  # noqa: BLE001  # A model's code may raise anything: it is the answer.
            outcome["error"] = f"{type(error).__name__}: {error}"
        self._note()
        self._send(outcome)

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._writer is not None, "joined"
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")
