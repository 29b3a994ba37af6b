"""All processes of this machine, as far as this user may look, and which of them belong to a run of a container.

A run's processes share the session that its first process opened, or carry the run's id in their environment: a child
that opened a session of its own is found too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.base.logging import get_logger
from onebox.node.launch_spec import LAUNCH_VARIABLE
from onebox.processes import HOME_VARIABLE, ProcessId

log = get_logger(__name__)

ROUNDS_MAX = 10
"""A run whose processes fork faster than they are killed is given up after this many looks, and logged."""
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
            environment = Path(entry.path, "environ").read_bytes().split(b"\0")
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


class Sweeper:
    """Kills what a run leaves behind. Looks that are asked for at the same time share one scan of /proc."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._turn = asyncio.Lock()
        self._begun = 0
        self._done = 0
        self._seen: tuple[Seen, ...] = ()

    async def sweep(self, launch: str, session: int | None) -> int:
        """Kills every process of a run with SIGKILL; returns how many there were."""
        killed = 0
        for _ in range(ROUNDS_MAX):
            members = [seen for seen in await self._look() if _belongs(seen, launch, session)]
            if not members:
                return killed
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    member.identity.signal(signal.SIGKILL)
            killed += len(members)
        log.error("processes left behind", launch=launch, session=session)
        return killed

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
