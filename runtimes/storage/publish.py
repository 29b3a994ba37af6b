"""Files appear in their destination whole or not at all.

They are made in a hidden directory inside the destination, which is on the same file system (a volume is often a mount and
cannot be replaced itself), and then renamed into place, one rename for each top-level entry. A crash leaves the hidden
directory behind: the next attempt at the same source goes on with its `work`; any other one removes it, unless its maker
still holds its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ladle.errors import TransientError
from runtimes.storage.locks import try_lock

_PREFIX = ".ladle-staging-"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Staging:
    """`files` is what will be published, `work` is for what will not, and may hold what an earlier attempt left."""

    files: Path
    work: Path


@contextlib.contextmanager
def staged(destination: Path, name: str = "") -> Iterator[Staging]:
    """Directories to fill; the entries of `files` are in `destination` after the block, nothing is where it raises.

    With a `name`, an attempt that was killed, or failed for now, leaves its `work` to the next one of the same name.
    """
    destination.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(destination, f"{_PREFIX}{name}" if name else "")
    root, lock = _own(destination, name)
    staging = Staging(root / "files", root / "work")
    keep_work = False
    try:
        shutil.rmtree(staging.files, ignore_errors=True)
        staging.files.mkdir()
        staging.work.mkdir(exist_ok=True)
        yield staging
        for entry in staging.files.iterdir():
            _place(entry, destination / entry.name)
    except TransientError:
        keep_work = bool(name) and any(staging.work.iterdir())
        raise
    finally:
        shutil.rmtree(staging.files if keep_work else root, ignore_errors=True)
        os.close(lock)


def _own(destination: Path, name: str) -> tuple[Path, int]:
    """A hidden directory, and a descriptor that holds its lock; one of its own where another process has the named one."""
    if name:
        root = destination / f"{_PREFIX}{name}"
        root.mkdir(exist_ok=True)
        lock = _lock(root)
        if lock is not None:
            return root, lock
    while True:
        root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=destination))
        lock = _lock(root)
        if lock is not None:
            return root, lock


def _lock(root: Path) -> int | None:
    """None where another process has it, or took it for abandoned and removed it before it was locked."""
    try:
        return try_lock(root / _LOCK)
    except FileNotFoundError:
        return None


def _place(entry: Path, target: Path) -> None:
    """Renames `entry` to `target`, in the stead of what an earlier attempt left there."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    os.replace(entry, target)


def _remove_abandoned(destination: Path, kept: str) -> None:
    for left in destination.glob(f"{_PREFIX}*"):
        if left.name == kept:
            continue
        with contextlib.suppress(OSError):  # Its maker holds the lock, or has just removed it.
            lock = os.open(left / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)
