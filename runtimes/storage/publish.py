"""Files appear in their destination whole or not at all.

They are made in a hidden directory inside the destination, which is on the same file system (a volume is often a mount and
cannot be replaced itself), and then renamed into place, one rename for each top-level entry. A crash leaves the hidden
directory behind; the next attempt removes it, unless its maker still holds its lock.
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

_PREFIX = ".ladle-staging-"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Staging:
    """`files` is what will be published, `work` is for what will not."""

    files: Path
    work: Path


@contextlib.contextmanager
def staged(destination: Path) -> Iterator[Staging]:
    """Directories to fill; the entries of `files` are in `destination` after the block, nothing is where it raises."""
    destination.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(destination)
    root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=destination))
    lock = os.open(root / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        staging = Staging(root / "files", root / "work")
        staging.files.mkdir()
        staging.work.mkdir()
        yield staging
        for entry in staging.files.iterdir():
            _place(entry, destination / entry.name)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        os.close(lock)


def _place(entry: Path, target: Path) -> None:
    """Renames `entry` to `target`, in the stead of what an earlier attempt left there."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    os.replace(entry, target)


def _remove_abandoned(destination: Path) -> None:
    for left in destination.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # Its maker holds the lock, or has just removed it.
            lock = os.open(left / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)
