"""Log files of containers: where they are, how they stay small, and what their end says about a failure.

Processes write to their files themselves, so that logging goes on while no node runs. A file that grew too large is copied
and cut to nothing: the process, which appends, goes on at the start. Lines written between copy and cut are lost.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from onebox.home import Home
from onebox.node.state import PodRecord

LOG_BYTES_MAX = 10 * 1024 * 1024
OLD_LOGS_MAX = 2
"""Kubelet's containerLogMaxSize is 10Mi; of its containerLogMaxFiles (5) we keep three, the live one included."""
RUNS_KEPT = 2
"""Logs of the present run and of the one before, for `kubectl logs --previous`, as kubelet keeps them."""
MESSAGE_BYTES_MAX = 4096
FALLBACK_BYTES_MAX = 2048
FALLBACK_LINES_MAX = 80
"""Kubelet's limits of a termination message, and of one that is taken from the log."""


class PodLogs:
    """The log directory of one pod."""

    def __init__(self, home: Home, record: PodRecord) -> None:
        self.folder = home.pod_logs / record.folder

    def path(self, container: str, restarts: int) -> Path:
        return self.folder / container / f"{restarts}.log"

    def alias(self, container: str, other: str) -> None:
        """Lets `container` share the logs of `other`, in whose process it runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        link = self.folder / container
        if not link.is_symlink():
            link.symlink_to(other)

    def forget_runs_before(self, container: str, restarts: int) -> None:
        """Removes the logs of runs that nobody can ask for any more."""
        for path in (self.folder / container).glob("*.log*"):
            number = path.name.partition(".")[0]
            if number.isdigit() and int(number) <= restarts - RUNS_KEPT:
                path.unlink()

    def rotate(self) -> None:
        """Cuts every live log of the pod that is too large; blocking."""
        for path in self.folder.glob("*/*.log"):
            if not path.parent.is_symlink() and path.stat().st_size > LOG_BYTES_MAX:
                rotate(path)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def rotate(path: Path) -> None:
    """Moves the content of a log to `<name>.1`, what was there to `<name>.2`, and so on."""
    for number in range(OLD_LOGS_MAX, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{number}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)


def read_termination_message(termination_log: Path, log: Path, *, fall_back: bool) -> str:
    """What the container said about its end: its termination log, else, where allowed, the last lines of its log."""
    message = _tail(termination_log, MESSAGE_BYTES_MAX)
    if message or not fall_back:
        return message
    lines = _tail(log, FALLBACK_BYTES_MAX).splitlines(keepends=True)
    return "".join(lines[-FALLBACK_LINES_MAX:])


def _tail(path: Path, size: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size).decode(errors="replace")
    except OSError:
        return ""
