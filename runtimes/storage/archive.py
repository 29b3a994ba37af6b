"""Archives: tar, tar.gz, tgz and zip, unpacked as if their author meant harm.

No entry leaves the destination: absolute names, `..`, devices and links that point outside are refused, whole archive and
all. Links are made after every file is written, so that no file is written through one. A size limit stops archives that
are small to download and fill a disk.
"""

from __future__ import annotations

import mimetypes
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from runtimes.storage.uri import WrongContent

EXPANSION_MAX = 200
"""Unpacked bytes for each byte of the archive. Weights hardly shrink at all; deflate can reach 1032. A guess."""
SMALL_BYTES = 1024 * 1024 * 1024
"""Up to here anything may expand: a disk has this much. A guess."""
ENTRIES_MAX = 1_000_000
"""Entries of one archive: a file system has only so many inodes. A guess."""
_COPY_BYTES = 1024 * 1024
_TAR, _ZIP = "application/x-tar", "application/zip"
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)
"""What the standard library raises for an archive that is broken, cut off or encrypted."""


class Kind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry, of either kind of archive. `open` gives its content, `target` is what a link points to."""

    name: str
    kind: Kind
    open: Callable[[], IO[bytes]] | None = None
    target: str = ""


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked; told by its name, as KServe does."""
    return _type_of(name) in (_TAR, _ZIP)


def unpack(path: Path, destination: Path) -> None:
    """The archive's entries in the directory `destination`; WrongContent where it is broken or refused."""
    limit_bytes = max(SMALL_BYTES, EXPANSION_MAX * path.stat().st_size)
    try:
        if _type_of(path.name) == _ZIP:
            with zipfile.ZipFile(path) as archive:
                _write(_zip_entries(archive), destination, limit_bytes)
        else:
            with tarfile.open(path, "r:*") as tar:
                _write(_tar_entries(tar), destination, limit_bytes)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The destination's: a full disk is not the archive's fault.
        raise WrongContent(f"{path.name} could not be unpacked: {error or type(error).__name__}") from error


def _type_of(name: str) -> str | None:
    return mimetypes.guess_type(name)[0]


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[Entry]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            yield Entry(name=info.filename, kind=Kind.LINK, target=archive.read(info).decode("utf-8", "replace"))
        elif info.is_dir():
            yield Entry(name=info.filename, kind=Kind.DIRECTORY)
        else:
            yield Entry(name=info.filename, kind=Kind.FILE, open=partial(archive.open, info))


def _tar_entries(tar: tarfile.TarFile) -> Iterator[Entry]:
    for member in tar:
        if member.isdir():
            yield Entry(name=member.name, kind=Kind.DIRECTORY)
        elif member.isfile():
            yield Entry(name=member.name, kind=Kind.FILE, open=partial(_member, tar, member))
        elif member.issym():
            yield Entry(name=member.name, kind=Kind.LINK, target=member.linkname)
        elif member.islnk():
            # Relative to the archive's root, unlike a symbolic link's target; made one, so that it is checked as one.
            target = os.path.relpath(member.linkname, PurePosixPath(member.name).parent)
            yield Entry(name=member.name, kind=Kind.LINK, target=target)
        else:
            raise WrongContent(f"entry {member.name} is a device or a pipe; pack only files, directories and links")


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None, "only asked for regular files"
    return content


def _write(entries: Iterable[Entry], destination: Path, limit_bytes: int) -> None:
    left_bytes, links = limit_bytes, []
    for number, entry in enumerate(entries):
        if number >= ENTRIES_MAX:
            raise WrongContent(f"more than {ENTRIES_MAX} entries")
        place = _inside(entry.name)
        if place == PurePosixPath("."):
            continue
        path = destination / place
        if entry.kind is Kind.LINK:
            links.append((entry, place))
        elif entry.kind is Kind.DIRECTORY:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            left_bytes -= _copy(entry, path, left_bytes, limit_bytes)
    for entry, place in links:
        _link(entry, place, destination)


def _inside(name: str) -> PurePosixPath:
    """The entry's path below the destination; WrongContent where it is elsewhere."""
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or "\0" in name:
        raise WrongContent(f"entry {name!r} points outside the destination; pack it again")
    return place


def _copy(entry: Entry, path: Path, left_bytes: int, limit_bytes: int) -> int:
    assert entry.open is not None, "files have content"
    written = 0
    with entry.open() as content, path.open("wb") as file:
        while chunk := content.read(_COPY_BYTES):
            written += len(chunk)
            if written > left_bytes:
                raise WrongContent(f"it unpacks to more than {limit_bytes} bytes")
            file.write(chunk)
    return written


def _link(entry: Entry, place: PurePosixPath, destination: Path) -> None:
    target = PurePosixPath(os.path.normpath(place.parent / entry.target))
    if PurePosixPath(entry.target).is_absolute() or ".." in target.parts:
        raise WrongContent(f"link {entry.name!r} points outside the destination, to {entry.target!r}")
    path = destination / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(entry.target)
