"""Starts processes: forked from a template where one runs, else as ordinary children.

Either way a process gets a session of its own, exactly the environment that its spec names, and its log as stdout and
stderr, so that it can go on when this node is killed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module

from controller.base.logging import get_logger
from onebox.home import Home
from onebox.node.images import ON_DEMAND
from onebox.node.launch_spec import LaunchSpec
from onebox.node.process import RunningProcess, start_child
from onebox.node.start_counts import StartCounts
from onebox.node.template import Template
from onebox.processes import ProcessId

log = get_logger(__name__)

AT_ONCE_TIMEOUT_S = 0.5
"""For work without a process, which takes a millisecond; longer is a file system that hangs. A guess."""
_AT_ONCE_THREADS = 2
"""Their own, so that such a file system holds up nothing else here."""


class StartError(Exception):
    """The program could not be executed; the message is for the container's status."""


class Launcher:
    """Starts and adopts processes. `templates` by name; one that is not up is passed over."""

    def __init__(self, templates: Mapping[str, Template]) -> None:
        self._templates = templates
        self._missed: set[str] = set()
        self._beside = ThreadPoolExecutor(_AT_ONCE_THREADS, thread_name_prefix="at-once")
        self.starts = StartCounts()

    @classmethod
    def for_home(cls, home: Home, preloads: Mapping[str, tuple[str, ...]], inherited: Mapping[str, str]) -> Launcher:
        templates = (
            Template(home, name, modules, inherited=inherited, on_demand=name in ON_DEMAND)
            for name, modules in preloads.items()
        )
        return cls({template.name: template for template in templates})

    @property
    def templates(self) -> tuple[Template, ...]:
        return tuple(self._templates.values())

    async def attempt(self, spec: LaunchSpec) -> bool:
        """Whether the program's work could be done here and now without a process; its log says so as the program would."""
        if not spec.at_once:
            return False
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            async with asyncio.timeout(AT_ONCE_TIMEOUT_S):
                said = await loop.run_in_executor(self._beside, _attempt, spec)
        except TimeoutError:
            return False
        if said is None:
            return False
        with _opened_log(spec) as output:
            os.write(output, said.encode())
        self.starts.started("nothing", loop.time() - started_s)
        return True

    async def start(self, spec: LaunchSpec) -> RunningProcess:
        """The process, which may have ended already; StartError where there is nothing to execute."""
        spec.cwd.mkdir(parents=True, exist_ok=True)
        with _opened_log(spec) as output:
            try:
                started_s = asyncio.get_running_loop().time()
                forked = await self._fork(spec, output)
                process = forked or _spawn(spec, output)
            except StartError:
                self.starts.failed()
                raise
            how = spec.template if forked else "exec"
            self.starts.started(how, asyncio.get_running_loop().time() - started_s)
            return process

    def adopt(self, identity: ProcessId) -> RunningProcess | None:
        """A process that an earlier node started; None where it has ended."""
        return RunningProcess.adopt(identity, self._exit_code)

    async def _exit_code(self, pid: int) -> int | None:
        # Asked for at the end: right after the node has started, a template has not told yet whom it forked.
        template = next((template for template in self.templates if template.knows(pid)), None)
        return await template.exit_code(pid) if template else None

    async def _fork(self, spec: LaunchSpec, output: int) -> RunningProcess | None:
        template = self._templates.get(spec.template)
        if template is None:
            return None
        identity = await template.fork(spec, output)
        if identity is None:
            if template.name not in self._missed:
                self._missed.add(template.name)
                log.warning(
                    "template not ready, started an ordinary process", template=template.name, module=spec.module
                )
            return None
        self._missed.discard(template.name)
        return RunningProcess.of_fork(identity, template.exit_code)


def _attempt(spec: LaunchSpec) -> str | None:
    # Imported here, in a thread, and not before somebody needs it.
    said: str | None = import_module(spec.at_once).attempt(spec.argv, spec.env)
    return said


@contextmanager
def _opened_log(spec: LaunchSpec) -> Iterator[int]:
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield output
    finally:
        os.close(output)


def _spawn(spec: LaunchSpec, output: int) -> RunningProcess:
    try:
        return RunningProcess.of_child(start_child(spec.command, env=spec.env, cwd=spec.cwd, output=output))
    except FileNotFoundError:
        raise StartError(f'exec: "{spec.command[0]}": executable file not found in $PATH') from None
    except OSError as error:
        raise StartError(f'exec: "{spec.command[0]}": {error.strerror or error}') from None
