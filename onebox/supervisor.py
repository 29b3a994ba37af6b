"""Keeps the components of one home running: starts what is missing, restarts what died, ends all on SIGTERM.

`python -m onebox.supervisor --home DIR`. It holds DIR/supervisor.lock, so there is one for each home. It may be killed
at any time: the components go on without it, and the next one adopts them by pid and start time. One thread, and only the
standard library, logging included: this process must be the smallest and the last to fail.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from onebox.component_template import ComponentTemplate, ForkRefusedError, TemplateLostError
from onebox.components import TEMPLATE, Component, read_components
from onebox.home import Home, write_atomically
from onebox.processes import COMPONENT_VARIABLE, HOME_VARIABLE, ProcessId, command_of, end, identify, processes_of, reap

log = logging.getLogger("supervisor")

_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
"""A component that keeps dying is restarted at most this often; a guess between quick recovery and a busy machine."""
_STABLE_S = 30.0
"""A component that ran this long starts its back-off anew. Longer than one needs, on a busy machine, to find out that it
cannot start: with 10 s, an engine that failed after 11 s of imports was started again at once, without end, and kept the
machine busy (measured 2026-11-21 at a load of 35 on 2 cores). A guess above that."""
_WORKED_S = 3.0
"""One that somebody killed has not failed: after this long its back-off starts anew as well. Where something kills it each time
before that, as the kernel does for want of memory, the waits grow. A guess."""
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
_CHECK_INTERVAL_S = 0.1
"""How often the components are looked at when no child has ended; also the reaction time to a death of an adopted one."""
_TEMPLATE_WAIT_S = 20.0
"""How long components wait for a template that still imports; then they start as ordinary processes, with memory of their
own. Its imports take 1.3 s alone, and ten times as long on a busy machine."""
_STOP_GRACE_S = 8.0
"""Time for each group of components to end by itself before SIGKILL."""


@dataclass(slots=True)
class Running:
    """A component and the process that is it now; `process` None means that it is to be started at `start_at_s`."""

    component: Component
    process: ProcessId | None = None
    started_s: float = 0.0
    start_at_s: float = 0.0
    backoff_s: float = _BACKOFF_FIRST_S
    restarts: int = 0
    exit_code: int | None = None


def record_path(home: Home, name: str) -> Path:
    return home.components / f"{name}.json"


def read_record(home: Home, name: str) -> tuple[ProcessId, int] | None:
    """The process last recorded for a component and how often it was restarted; None where there is no record."""
    try:
        stored = json.loads(record_path(home, name).read_text())
    except FileNotFoundError:
        return None
    return ProcessId(stored["pid"], stored["start_ticks"]), stored["restarts"]


@contextlib.contextmanager
def sole_supervisor(home: Home) -> Iterator[IO[str] | None]:
    """Holds the lock of this home; yields None where another supervisor holds it."""
    home.root.mkdir(parents=True, exist_ok=True)
    with (home.root / "supervisor.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock


def supervisor_pid(home: Home) -> int | None:
    """The pid of the supervisor that runs for this home; None where none does."""
    try:
        with (home.root / "supervisor.lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except FileNotFoundError:
        return None
    return None


class Supervisor:
    """One pass of `supervise` looks at every component once; `stop` ends them all, pods included."""

    def __init__(self, home: Home, wanted: tuple[Component, ...]) -> None:
        self._home = home
        self._running = [Running(component) for component in wanted]
        self._template = ComponentTemplate(home.template_socket)
        self._template_entry = next((entry for entry in self._running if entry.component.name == TEMPLATE), None)

    def adopt(self) -> None:
        """Takes over what an earlier supervisor left running, and ends what it started but never wrote down."""
        for entry in self._running:
            recorded = read_record(self._home, entry.component.name)
            if recorded and recorded[0].alive():
                entry.process, entry.restarts = recorded
                entry.started_s = time.monotonic()
                log.info("adopted %s, pid %d", entry.component.name, recorded[0].pid)
        self._end_strays()

    def _end_strays(self) -> None:
        known = {entry.process for entry in self._running}
        end([process for process in self._strays() if process not in known], grace_s=1.0)

    def _strays(self) -> Iterator[ProcessId]:
        """Processes that run a component's command for this home; pods inherit its environment, never its command.

        What the template forked shows the template's.
        """
        commands = {entry.component.command for entry in self._running}
        for process, environment in processes_of(self._home.root):
            if environment.get(COMPONENT_VARIABLE) and command_of(process.pid) in commands:
                yield process

    def watched(self) -> list[int]:
        """Descriptors that become readable when there is something to look at."""
        descriptor = self._template.fileno()
        return [] if descriptor is None else [descriptor]

    def supervise(self) -> None:
        """Starts what should run and does not."""
        now_s = time.monotonic()
        if self._template_entry is not None:
            self._template.look()
        for entry in self._running:
            if entry.process and not self._ended(entry):
                continue
            if entry.process:
                self._note_death(entry, now_s)
            if now_s >= entry.start_at_s and not self._waits_for_template(entry, now_s):
                self._start(entry, now_s)

    def _ended(self, entry: Running) -> bool:
        assert entry.process is not None
        entry.exit_code = reap(entry.process.pid)
        if entry.exit_code is None and entry.process.alive():
            return False
        if entry.exit_code is None:
            entry.exit_code = self._template.exit_code(entry.process.pid)
        return True

    def _waits_for_template(self, entry: Running, now_s: float) -> bool:
        template = self._template_entry
        if not entry.component.module or template is None or template.process is None or self._template.ready:
            return False
        return now_s - template.started_s < _TEMPLATE_WAIT_S

    def _note_death(self, entry: Running, now_s: float) -> None:
        name, code = entry.component.name, entry.exit_code
        entry.backoff_s = decide_backoff_s(entry.backoff_s, code, now_s - entry.started_s)
        log.warning("%s ended, exit code %s, again in %.1f s", name, code, entry.backoff_s)
        entry.process = None
        entry.start_at_s = now_s + entry.backoff_s
        entry.backoff_s = min(entry.backoff_s * 2, _BACKOFF_MAX_S)
        entry.restarts += 1

    def _start(self, entry: Running, now_s: float) -> None:
        name = entry.component.name
        environment = {**os.environ, HOME_VARIABLE: str(self._home.root), COMPONENT_VARIABLE: name}
        self._home.logs.mkdir(parents=True, exist_ok=True)
        with (self._home.logs / f"{name}.log").open("ab") as output:
            try:
                pid = self._fork(entry.component, environment, output)
            except TemplateLostError as error:
                self._give_template_up(error)
                return  # The next pass starts it.
            if pid is None:
                pid = self._spawn(entry.component, environment, output)
        entry.process = identify(pid) or ProcessId(pid, 0)
        entry.started_s = now_s
        record = {**asdict(entry.process), "restarts": entry.restarts}
        write_atomically(record_path(self._home, name), json.dumps(record).encode())
        log.info("started %s, pid %d", name, pid)

    def _fork(self, component: Component, environment: Mapping[str, str], output: IO[bytes]) -> int | None:
        """The pid of a fork of the template; None where there is no template, or it cannot."""
        if not component.module or not self._template.ready:
            return None
        try:
            return self._template.fork(component, env=environment, cwd=self._home.root, output=output.fileno())
        except ForkRefusedError as error:
            log.warning("%s is not forked but started: %s", component.name, error)
            return None

    def _spawn(self, component: Component, environment: Mapping[str, str], output: IO[bytes]) -> int:
        child = subprocess.Popen(
            component.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=self._home.root,
            start_new_session=True,
        )
        child.returncode = 0  # It may outlive us, and we reap it ourselves: nobody is to be warned.
        return child.pid

    def _give_template_up(self, error: TemplateLostError) -> None:
        """Ends a template that may have forked without telling, and what it forked that nobody knows."""
        log.warning("the template is given up: %s", error)
        if self._template_entry is not None and self._template_entry.process is not None:
            self._template_entry.process.signal(signal.SIGKILL)
        self._end_strays()

    def close(self) -> None:
        """Ends nothing: the components go on without this supervisor."""
        self._template.close()

    def stop(self) -> None:
        """Ends everything of this home: what decides first, then the pods, then what they all talk to."""
        by_name = {entry.component.name: entry.process for entry in self._running if entry.process}
        deciders = [by_name.pop(name) for name in ("controller", "engine", "node") if name in by_name]
        end(deciders, grace_s=_STOP_GRACE_S)
        from onebox.node.reap import kill_all  # The node's libraries: only at the end, and not before they are needed.

        kill_all(self._home, _STOP_GRACE_S)
        end(by_name.values(), grace_s=_STOP_GRACE_S)
        end([process for process, _ in processes_of(self._home.root)], grace_s=1.0)
        for entry in self._running:
            record_path(self._home, entry.component.name).unlink(missing_ok=True)


def decide_backoff_s(grown_s: float, exit_code: int | None, ran_s: float) -> float:
    """The wait before a component is started again that ended after `ran_s`: `grown_s`, unless it had come up before. (pure)

    `exit_code`: negative for a signal; None where nobody knows it.
    """
    stable = ran_s > (_WORKED_S if exit_code in _FROM_OUTSIDE else _STABLE_S)
    return _BACKOFF_FIRST_S if stable else grown_s


def run(home: Home) -> int:
    """Supervises until SIGTERM or SIGINT, or until somebody deletes the home; 0 then, 1 where another one supervises it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with sole_supervisor(home) as lock:
        if lock is None:
            log.warning("another supervisor runs for %s", home.root)
            return 1
        stopping = _wake_on_signals()
        supervisor = Supervisor(home, read_components(home))
        supervisor.adopt()
        while not stopping():
            if not home.settings_file.exists():
                # Every component would fail without it, again and again, and `ladle down` no longer finds anybody to end.
                log.warning("%s holds no onebox any more: ending what runs for it", home.root)
                break
            supervisor.supervise()
            stopping.watched = supervisor.watched()
        supervisor.stop()
        supervisor.close()
    return 0


class _Stop:
    """True once SIGTERM or SIGINT came; each look waits until there is something to look at."""

    def __init__(self) -> None:
        self._asked = False
        self.watched: list[int] = []
        """Other descriptors that end the wait."""
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # Only to wake up: the next pass looks at all.

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def __call__(self) -> bool:
        if not self._asked:
            ready, _, _ = select.select([self._reader, *self.watched], [], [], _CHECK_INTERVAL_S)
            if self._reader in ready:
                os.read(self._reader, 4096)
        return self._asked


def _wake_on_signals() -> _Stop:
    return _Stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m onebox.supervisor", description=__doc__)
    parser.add_argument("--home", required=True, type=Path)
    return run(Home(parser.parse_args().home))


if __name__ == "__main__":
    raise SystemExit(main())
