"""Locks between processes that end with their holder, however it ends, and leave no file behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.05
"""Between two looks at a lock that another process holds."""


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock `path` until it is closed; None where another one holds it."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if _is_at(descriptor, path):
                return descriptor
        os.close(descriptor)  # Its last holder removed the file between our open and our lock.


@contextlib.contextmanager
def locked(path: Path, *, stop: threading.Event, timeout_s: float) -> Iterator[bool]:
    """Holds the lock `path` inside the block. False where it could not be had in time, or `stop` was set."""
    looks = max(1, int(timeout_s / POLL_S))
    descriptor = try_lock(path)
    while descriptor is None and looks > 0 and not stop.wait(POLL_S):
        descriptor, looks = try_lock(path), looks - 1
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # While it is held: whoever opened it before looks again.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    held, there = os.fstat(descriptor), os.stat(path)
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
