"""One file at a second place, for as little as the file system allows: a clone, a hard link, or a copy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

_FICLONE = 0x40049409
"""ioctl of Linux that shares the blocks of a file until one of both is written (btrfs, XFS)."""
READ_ONLY = 0o444


def link_content(source: Path, target: Path) -> None:
    """`target` with the content of `source`, read-only; FileNotFoundError where the source has just been removed.

    A clone comes first: writing to it, whoever may, changes nobody else's. Hard links need one file system, and a kernel
    that lets this user link the file; what is left is a copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if _clone(source, target):
        return
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # Another file system, none with links, or not ours to link (protected_hardlinks).
        shutil.copyfile(source, target)
        target.chmod(READ_ONLY)


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as original, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, original.fileno())
        except OSError:
            pass
        else:
            os.fchmod(copy.fileno(), READ_ONLY)
            return True
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    return False
