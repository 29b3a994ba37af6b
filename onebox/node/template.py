"""The node's side of a template: one process with a runtime's libraries imported, which forks servers on request.

The protocol is ladle.server.template's. A template outlives the node; the next node connects to it again. Whatever goes
wrong with one, the caller is told "no" and starts an ordinary process, and no server is left that nobody knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from controller.base.json import JsonObject
from controller.base.logging import get_logger
from onebox.home import Home, write_atomically
from onebox.node.launch_spec import LaunchSpec
from onebox.node.process import RunningProcess, start_child
from onebox.node.process_table import scan
from onebox.processes import HOME_VARIABLE, ProcessId, identify, reap

log = get_logger(__name__)

_Value = TypeVar("_Value")

TEMPLATE_VARIABLE = "LADLE_TEMPLATE"
"""Names one template process in its environment, which the kernel also shows for what it forks."""
FORK_TIMEOUT_S = 5.0
"""A fork takes milliseconds; a template that needs longer is broken and replaced. A guess."""
CONNECT_TIMEOUT_S = 10.0
HEIR_TIMEOUT_S = 1.0
"""For the spare of a template that was killed to answer in its place; it takes milliseconds. A guess."""
IMPORT_TIMEOUT_S = 120.0
"""For the imports; scikit-learn takes 2 s on a fast machine, and may take a minute from a cold disk under load."""
ON_DEMAND_DELAY_S = 5.0
"""From the first server that could have been forked to the template's start: that server imports the same libraries just
then, and beside each other both would take twice as long."""
_CONNECT_POLL_S = 0.02
_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 60.0
_RECEIVED_BYTES_MAX = 1024 * 1024
_SENT_BYTES_MAX = 200 * 1024
"""Longest request: the kernel's default limit of a packet is 208 KiB."""
_KILL_ROUNDS_MAX = 10
"""Looks for what was forked while others were killed."""
_ENDINGS_MAX = 1024
"""Endings kept until somebody asks; as many as the template itself keeps."""


class TemplateLostError(Exception):
    """The template does not answer as it should."""


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """A template that runs: what the next node needs to go on with it."""

    process: ProcessId
    instance: str
    modules: tuple[str, ...]


def template_records(home: Home) -> dict[str, TemplateRecord]:
    """The templates that were started last, by name; each may have ended."""
    found = {}
    for path in (home.node / "templates").glob("*.json"):
        stored = json.loads(path.read_bytes())
        process = ProcessId(stored["pid"], stored["start_ticks"])
        found[path.stem] = TemplateRecord(process, stored["instance"], tuple(stored["modules"]))
    return found


class Template:
    """One template: `run` keeps it alive and connected; `fork` asks it for a process."""

    def __init__(
        self,
        home: Home,
        name: str,
        modules: tuple[str, ...],
        *,
        inherited: Mapping[str, str],
        on_demand: bool = False,
    ) -> None:
        """`on_demand`: it starts when `fork` was called in vain, not before."""
        self.name = name
        self._on_demand = on_demand
        self._wanted = asyncio.Event()
        self._home = home
        self._modules = modules
        self._inherited = inherited
        self._child: int | None = None
        self._process: ProcessId | None = None
        self._connection: socket.socket | None = None
        self._lost: asyncio.Future[None] | None = None
        self._listed: asyncio.Future[None] | None = None
        self._answers: dict[str, asyncio.Future[JsonObject]] = {}
        self._children: set[int] = set()
        self._orphans: set[int] = set()
        """Children of an earlier template, whose ends this one does not see."""
        self._endings: OrderedDict[int, int] = OrderedDict()
        self._waiting: dict[int, asyncio.Future[int | None]] = {}
        self._abandoning = asyncio.Lock()
        self.ready = False

    async def fork(self, spec: LaunchSpec, output: int) -> ProcessId | None:
        """The process forked for `spec`, its output going to the descriptor; None where it has to be started otherwise."""
        if not self.ready or self._connection is None:
            self._wanted.set()
            return None
        request = {"id": spec.launch, "module": spec.module, "argv": spec.argv, "env": spec.env, "cwd": str(spec.cwd)}
        packet = json.dumps(request).encode()
        if len(packet) > _SENT_BYTES_MAX:
            return None
        answer = self._answers[spec.launch] = asyncio.get_running_loop().create_future()
        try:
            socket.send_fds(self._connection, [packet], [output, output], socket.MSG_NOSIGNAL)
            async with asyncio.timeout(FORK_TIMEOUT_S):
                return self._forked(await answer)
        except BlockingIOError:
            return None  # Its queue is full, and nothing was sent.
        except (OSError, TemplateLostError) as error:
            await self._abandon(error)
            return None
        finally:
            self._answers.pop(spec.launch, None)

    def _forked(self, answer: JsonObject) -> ProcessId | None:
        if "error" in answer:
            log.warning("template refused", template=self.name, error=answer["error"])
            return None
        pid = int(answer["pid"])
        # One that has ended already has no start time any more; its end is told all the same.
        return identify(pid) or ProcessId(pid, 0)

    def knows(self, pid: int) -> bool:
        """Whether it forked this process, as far as it has told."""
        return pid in self._children or pid in self._endings

    async def exit_code(self, pid: int) -> int | None:
        """Waits for the end of a child and returns its exit code; None where the template is gone."""
        if pid in self._endings:
            self._children.discard(pid)
            return self._endings.pop(pid)
        if not self.ready or pid in self._orphans:
            return None
        waiter: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting[pid] = waiter
        try:
            return await waiter
        finally:
            self._waiting.pop(pid, None)

    async def run(self) -> None:
        """Keeps the template going until cancelled; then it goes on without us."""
        backoff_s = _BACKOFF_FIRST_S
        while True:
            record = self._running() or await self._start_when_wanted()
            try:
                await self._serve(record.process)
            except (OSError, TemplateLostError) as error:
                backoff_s = _BACKOFF_FIRST_S if self.ready else min(backoff_s * 2, _BACKOFF_MAX_S)
                self._disconnect()
                if await self._find_heir(record):
                    continue
                await self._abandon(error)
            finally:
                self._disconnect()
            await asyncio.sleep(backoff_s)

    def _running(self) -> TemplateRecord | None:
        record = template_records(self._home).get(self.name)
        if record is None or not record.process.alive():
            return None
        if record.modules != self._modules:
            record.process.signal(signal.SIGTERM)  # Its children go on.
            return None
        return record

    async def _start_when_wanted(self) -> TemplateRecord:
        if self._on_demand and not self._wanted.is_set():
            await self._wanted.wait()
            await asyncio.sleep(ON_DEMAND_DELAY_S)
        return self._start()

    async def _find_heir(self, record: TemplateRecord) -> bool:
        """Whether the spare of a template that was killed goes on in its place; then its record says so."""
        if self._answers:
            return False  # It may have forked what nobody was told of; that ends with all of it.
        async with self._abandoning:
            if template_records(self._home).get(self.name) != record:
                return False
            try:
                async with asyncio.timeout(HEIR_TIMEOUT_S):
                    await self._bury(record.process)
                    heir = identify(await self._ask_for_pid(record.process))
            except (OSError, TimeoutError, TemplateLostError):
                return False
            if heir is not None:
                self._write_record(TemplateRecord(heir, record.instance, record.modules))
                log.info("template replaced by its spare", template=self.name, pid=heir.pid)
            return heir is not None

    async def _bury(self, process: ProcessId) -> None:
        """Waits for its end, which comes a moment after that of its connections."""
        dying = RunningProcess.adopt(process)
        if dying is not None:
            with contextlib.closing(dying):
                await dying.ended()
        if self._child is not None:
            reap(self._child)
            self._child = None

    async def _ask_for_pid(self, before: ProcessId) -> int:
        with await self._connect(before) as connection:
            connection.send(b'{"list": true}', socket.MSG_NOSIGNAL)
            packet = await asyncio.get_running_loop().sock_recv(connection, _RECEIVED_BYTES_MAX)
        if not packet:
            raise TemplateLostError("nobody took its place")
        return int(json.loads(packet)["pid"])

    def _start(self) -> TemplateRecord:
        instance = f"{self.name}/{uuid.uuid4()}"
        command = (
            sys.executable,
            "-m",
            "ladle.server.template",
            "--socket",
            str(self._socket),
            "--spare",
            "--preload",
            *self._modules,
        )
        self._home.run.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**self._inherited, HOME_VARIABLE: str(self._home.root), TEMPLATE_VARIABLE: instance}
        with self._log.open("ab") as output:
            pid = start_child(command, env=environment, cwd=self._home.root, output=output.fileno())
        self._child, self._children, self._orphans = pid, set(), set()
        record = TemplateRecord(identify(pid) or ProcessId(pid, 0), instance, self._modules)
        self._write_record(record)
        log.info("template started", template=self.name, pid=pid)
        return record

    def _write_record(self, record: TemplateRecord) -> None:
        stored = {
            "pid": record.process.pid,
            "start_ticks": record.process.start_ticks,
            "instance": record.instance,
            "modules": record.modules,
        }
        write_atomically(self._record, json.dumps(stored).encode())

    async def _serve(self, process: ProcessId) -> None:
        self._process = process
        self._connection = connection = await self._connect(process)
        loop = asyncio.get_running_loop()
        self._lost, self._listed = loop.create_future(), loop.create_future()
        loop.add_reader(connection, self._receive, connection)
        try:
            connection.send(b'{"list": true}', socket.MSG_NOSIGNAL)
            async with asyncio.timeout(IMPORT_TIMEOUT_S):
                # It listens before it imports, and answers when it has imported.
                await asyncio.wait((self._lost, self._listed), return_when=asyncio.FIRST_COMPLETED)
            if self._listed.done():
                self.ready = True
                log.info("template ready", template=self.name, pid=process.pid, children=len(self._children))
            await self._lost
        finally:
            loop.remove_reader(connection)

    async def _connect(self, process: ProcessId) -> socket.socket:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while True:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                connection.setblocking(False)
                try:
                    with _short_path(self._socket) as path:
                        connection.connect(path)
                    return connection
                except OSError:
                    connection.close()
                if not process.alive():
                    raise TemplateLostError(f"it ended at once; see {self._log}")
                await asyncio.sleep(_CONNECT_POLL_S)

    def _receive(self, connection: socket.socket) -> None:
        try:
            packet = connection.recv(_RECEIVED_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet:
            self._take(json.loads(packet))
        else:
            self._lose("its connection is closed")

    def _lose(self, why: str) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(TemplateLostError(why))

    def _take(self, message: JsonObject) -> None:
        if "id" in message:
            if "pid" in message:
                self._children.add(int(message["pid"]))
                self._endings.pop(int(message["pid"]), None)  # Of an earlier process with this pid.
            _settle(self._answers.get(message["id"]), message)
        elif "exit_code" in message:
            self._note_ending(int(message["pid"]), int(message["exit_code"]))
        elif "children" in message:
            if self._process is not None and int(message.get("pid", self._process.pid)) != self._process.pid:
                self._lose("another template answers at its socket")
                return
            self._children |= {int(child["pid"]) for child in message["children"]}
            self._orphans |= {int(child["pid"]) for child in message["children"] if child.get("orphan")}
            _settle(self._listed, None)

    def _note_ending(self, pid: int, exit_code: int) -> None:
        if pid in self._waiting:
            self._children.discard(pid)
            _settle(self._waiting[pid], exit_code)
            return
        self._endings[pid] = exit_code
        if len(self._endings) > _ENDINGS_MAX:
            self._children.discard(self._endings.popitem(last=False)[0])

    def _disconnect(self) -> None:
        self.ready = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for waiter in self._waiting.values():
            _settle(waiter, None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(TemplateLostError("its connection is closed"))

    async def _abandon(self, error: Exception) -> None:
        """Ends the template and every child of which it has not told us: nobody would ever end such a server."""
        async with self._abandoning:
            record = template_records(self._home).get(self.name)
            if record is not None:
                log.warning("template given up", template=self.name, error=str(error) or type(error).__name__)
                record.process.signal(signal.SIGKILL)
                await asyncio.to_thread(self._kill_unknown_children, record.instance)
                self._record.unlink()
                self._child = None
        self._lose("it was given up")

    def _kill_unknown_children(self, instance: str) -> None:
        for _ in range(_KILL_ROUNDS_MAX):
            members = [seen for seen in scan(self._home.root) if seen.variables.get(TEMPLATE_VARIABLE) == instance]
            unknown = [seen.identity for seen in members if seen.session not in self._children]
            if not unknown:
                break
            for each in unknown:
                each.signal(signal.SIGKILL)
        if self._child is not None:
            os.waitpid(self._child, 0)

    @property
    def _socket(self) -> Path:
        return self._home.run / f"template-{self.name}.sock"

    @property
    def _record(self) -> Path:
        return self._home.node / "templates" / f"{self.name}.json"

    @property
    def _log(self) -> Path:
        return self._home.logs / f"template-{self.name}.log"


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name for a socket whose path may be longer than the 107 bytes of a unix address."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _settle(future: asyncio.Future[_Value] | None, value: _Value) -> None:
    if future is not None and not future.done():
        future.set_result(value)
