"""Disks: how much is free, and what is said when one is full."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ladle.errors import TransientError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskFull(TransientError):
    """There is no room for the files; the message has the path, what is needed and what is free."""


class CannotWrite(TransientError):
    """The destination refuses a write for another reason: read-only, a broken disk, permissions."""


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write to the file system of `path`, which exists."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def check_space(path: Path, needed_bytes: int) -> None:
    """DiskFull where `needed_bytes` cannot fit, before a byte is fetched."""
    free = free_bytes(path)
    if needed_bytes > free:
        raise DiskFull(_message(path, f"{needed_bytes} bytes are needed", free))


@contextlib.contextmanager
def writing_to(path: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turns a full disk, a used-up quota and a size limit inside the block into DiskFull, other OSErrors into CannotWrite."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise  # A library's own, not the system's.
        if error.errno not in _FULL:
            raise CannotWrite(f"cannot write to {error.filename or path}: {error.strerror or error}") from error
        needed = f"{needed_bytes} bytes are needed" if needed_bytes else "more is needed"
        raise DiskFull(f"{_message(path, needed, free_bytes(_existing(path)))} ({error.strerror})") from error


def _message(path: Path, needed: str, free: int) -> str:
    return (
        f"no space left at {path}: {needed}, {free} bytes are free; make room there or give the volume (or the "
        "container's ephemeral-storage) more"
    )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
