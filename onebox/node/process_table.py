"""All processes of this machine, as far as this user may look, and which of them belong to a run of a container.

A run's processes share the session that its first process opened, or carry the run's id in their environment: a child
that opened a session of its own is found too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.base.logging import get_logger
from onebox.node.launch_spec import LAUNCH_VARIABLE
from onebox.processes import HOME_VARIABLE, ProcessId

log = get_logger(__name__)

SWEEP_S = 10.0
"""A run whose processes fork faster than they are killed, or do not die of SIGKILL (a hung disk), is given up after
this long, and logged."""
LOOK_INTERVAL_S = 0.005
"""What was killed takes until the kernel next runs it to be gone: the pause before the next look at it."""
_EXEC_LOOKS = 3
"""While a process is within execve its environment reads as empty, for some microseconds: it is read again."""
_STATE, _SESSION, _START_TIME = 0, 3, 19
"""Indexes in /proc/PID/stat after the command's closing parenthesis (proc(5), fields 3, 6 and 22)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One process as /proc shows it; `variables` is its environment at its start, for forked ones their template's."""

    identity: ProcessId
    session: int
    variables: Mapping[str, str]


def scan(home: Path) -> Iterator[Seen]:
    """Every living process that was started from `home`, this one apart."""
    wanted = f"{HOME_VARIABLE}={home}".encode()
    own = os.getpid()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == own:
            continue
        try:
            environment = _environment(Path(entry.path, "environ")).split(b"\0")
            if wanted not in environment:
                continue
            stat = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:  # Gone meanwhile, or somebody else's.
            continue
        if stat[_STATE] in (b"Z", b"X"):
            continue
        pairs = (item.decode(errors="replace").partition("=") for item in environment if item)
        yield Seen(
            identity=ProcessId(int(entry.name), int(stat[_START_TIME])),
            session=int(stat[_SESSION]),
            variables={name: value for name, _, value in pairs},
        )


def _environment(path: Path) -> bytes:
    return next((content for _ in range(_EXEC_LOOKS) if (content := path.read_bytes())), b"")


class Sweeper:
    """Kills what a run leaves behind. Looks that are asked for at the same time share one scan of /proc."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._turn = asyncio.Lock()
        self._begun = 0
        self._done = 0
        self._seen: tuple[Seen, ...] = ()

    async def sweep(self, launch: str, session: int | None) -> int:
        """Kills every process of a run with SIGKILL and waits until they are gone; returns how many there were."""
        killed: set[ProcessId] = set()
        deadline_s = time.monotonic() + SWEEP_S
        while time.monotonic() < deadline_s:
            members = {seen.identity for seen in await self._look() if _belongs(seen, launch, session)}
            if not members:
                return len(killed)
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    member.signal(signal.SIGKILL)
            if members <= killed:
                await asyncio.sleep(LOOK_INTERVAL_S)
            killed |= members
        log.error("processes left behind", launch=launch, session=session)
        return len(killed)

    async def _look(self) -> tuple[Seen, ...]:
        """What a scan that began after this call has found."""
        wanted = self._begun + 1
        async with self._turn:
            if self._done < wanted:
                self._begun += 1
                self._seen = await asyncio.to_thread(lambda: tuple(scan(self._home)))
                self._done = self._begun
            return self._seen


def _belongs(seen: Seen, launch: str, session: int | None) -> bool:
    return seen.session == session or (bool(launch) and seen.variables.get(LAUNCH_VARIABLE) == launch)
