"""Processes that outlive whoever started them: who they are, whether they still run, how they are ended.

A process is named by its pid and its start time, since pids are used again. Everything that onebox starts carries the
home in its environment, so that a process can be found even when its starter died before writing it down.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "LADLE_ONEBOX_HOME"
"""Environment variable with the home directory, in every process that onebox starts."""
COMPONENT_VARIABLE = "LADLE_COMPONENT"
"""Environment variable with the component's name, in every component."""

_START_TIME_FIELD = 19
"""Index of `starttime` in /proc/PID/stat, counted after the command's closing parenthesis (proc(5), field 22)."""
_STATE_FIELD = 0
_POLL_INTERVAL_S = 0.01
"""How often a dying process without pidfd is looked at; a guess that keeps `ladle down` quick."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, for ever: `start_ticks` is its start time in clock ticks since boot."""

    pid: int
    start_ticks: int

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return _start_ticks(self.pid) == self.start_ticks

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process is gone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def identify(pid: int) -> ProcessId | None:
    """The identity of a running process; None where there is none."""
    ticks = _start_ticks(pid)
    return None if ticks is None else ProcessId(pid, ticks)


def _start_ticks(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE_FIELD] in (b"Z", b"X") else int(fields[_START_TIME_FIELD])


def proportional_memory_bytes(pid: int) -> int:
    """The memory of a process, where a page that n processes share counts as 1/n of it; 0 where it is gone.

    Components share what they were forked with: their resident memory added up would count that once for each.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def command_of(pid: int) -> tuple[str, ...]:
    """The command line of a process; empty where it is gone or a zombie."""
    try:
        content = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in content.split(b"\0")[:-1])


def processes_of(home: Path) -> Iterator[tuple[ProcessId, dict[str, str]]]:
    """Every running process of this user that onebox started from `home`, with its environment at start."""
    wanted = f"{HOME_VARIABLE}={home}".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        except OSError:  # Gone meanwhile, or somebody else's.
            continue
        if wanted in environment and (process := identify(int(name))):
            pairs = (item.decode(errors="replace").partition("=") for item in environment if item)
            yield process, {key: value for key, _, value in pairs}


def end(processes: Iterable[ProcessId], *, grace_s: float) -> int:
    """Ends processes: SIGTERM, up to `grace_s` seconds for all of them together, then SIGKILL. Returns how many ran."""
    running = [process for process in processes if process.alive()]
    for process in running:
        process.signal(signal.SIGTERM)
    late = wait_for_exit(running, timeout_s=grace_s)
    for process in late:
        process.signal(signal.SIGKILL)
    wait_for_exit(late, timeout_s=grace_s)
    return len(running)


def reap(pid: int) -> int | None:
    """The exit code of a child that has ended, negative for a signal; None where it runs or is nobody's child of ours."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if reaped else None


def wait_for_exit(processes: Iterable[ProcessId], *, timeout_s: float) -> list[ProcessId]:
    """Waits until the processes are gone; returns those which still run after `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    waited = list(processes)
    running = [process for process in waited if process.alive()]
    while running and time.monotonic() < deadline_s:
        select.select([], [], [], _POLL_INTERVAL_S)
        running = [process for process in running if process.alive()]
    for process in waited:
        reap(process.pid)  # A child of ours stays a zombie otherwise, for as long as we live.
    return running
