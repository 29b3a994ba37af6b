"""Archives: tar, tar.gz, tgz and zip, unpacked as if their author meant harm.

No entry leaves the destination: absolute names, `..`, devices and links that point outside are refused, whole archive and
all. Links are made after every file is written, so that no file is written through one. A size limit stops archives that
are small to download and fill a disk.
"""

from __future__ import annotations

import lzma
import mimetypes
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import IO, cast

from runtimes.storage.selection import NAME_BYTES_MAX
from runtimes.storage.space import check_space, writing_to
from runtimes.storage.uri import WrongContent

EXPANSION_MAX = 200
"""Unpacked bytes for each byte of the archive. Weights hardly shrink at all; deflate can reach 1032. A guess."""
SMALL_BYTES = 1024 * 1024 * 1024
"""Up to here anything may expand: a disk has this much. A guess."""
ENTRIES_MAX = 1_000_000
"""Entries of one archive: a file system has only so many inodes. A guess."""
HEADER_BYTES_MAX = 16 * 1024 * 1024
"""Longest header of one entry, which is held in memory. A guess; real ones have kilobytes."""
_COPY_BYTES = 1024 * 1024
_PATH_BYTES_MAX, _TARGET_BYTES_MAX = 3072, 4095
"""Of Linux' PATH_MAX of 4096, a destination gets the rest."""
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
"""Modules of the standard library by the first bytes of what they unpack."""
_TAR, _ZIP = "application/x-tar", "application/zip"
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)
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
    size_bytes: int = 0
    """What it claims to unpack to."""
    open: Callable[[], IO[bytes]] | None = None
    target: str = ""


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked; told by its name, as KServe does."""
    return _type_of(name) in (_TAR, _ZIP)


def unpack(path: Path, destination: Path, *, content_type: str = "") -> None:
    """The archive's entries in the directory `destination`; WrongContent where it is broken or refused.

    `content_type` is what its server called it, for the message. DiskFull where the disk did not hold it.
    """
    limit_bytes = max(SMALL_BYTES, EXPANSION_MAX * path.stat().st_size)
    try:
        with writing_to(destination):
            _unpack(path, destination, limit_bytes)
        if not any(destination.iterdir()):
            raise WrongContent("it is empty")
    except (WrongContent, *_DAMAGE) as error:
        served = f" (content type {content_type})" if content_type else ""
        raise WrongContent(f"{path.name} could not be unpacked: {error or type(error).__name__}{served}") from error


def _unpack(path: Path, destination: Path, limit_bytes: int) -> None:
    if _type_of(path.name) == _ZIP:
        with zipfile.ZipFile(path) as archive:
            check_space(destination, sum(info.file_size for info in archive.infolist()))
            _write(_zip_entries(archive), destination, limit_bytes)
        return
    with path.open("rb") as file, _uncompressed(file) as content:
        bounded = cast("IO[bytes]", _Bounded(content))
        with tarfile.TarFile(fileobj=bounded) as tar:
            _write(_tar_entries(tar), destination, limit_bytes)
        _read_to_the_end(content, limit_bytes)


def _read_to_the_end(content: IO[bytes], limit_bytes: int) -> None:
    """Past the last entry: only there is the checksum of everything before, and what says that nothing was cut off."""
    for _ in range(0, limit_bytes, _COPY_BYTES):
        if not content.read(_COPY_BYTES):
            return
    raise WrongContent(f"more than {limit_bytes} bytes follow its last entry")


def _uncompressed(file: IO[bytes]) -> IO[bytes]:
    """The archive inside its compression, which its first bytes tell, whatever it is called."""
    magic = file.read(6)
    file.seek(0)
    for beginning, module in _COMPRESSIONS.items():
        if magic.startswith(beginning):
            opened: IO[bytes] = import_module(module).open(file)
            return opened
    return file


class _Bounded:
    """A file that gives little at once: the library reads a header into memory whole, as long as it claims to be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER_BYTES_MAX:
            raise WrongContent(f"it has a header of {size} bytes, at most {HEADER_BYTES_MAX} are read")
        return self._file.read(size)


def _type_of(name: str) -> str | None:
    return mimetypes.guess_type(name)[0]


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[Entry]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            if info.file_size > _TARGET_BYTES_MAX:
                raise WrongContent(f"link {info.filename!r} has a target of {info.file_size} bytes")
            yield Entry(name=info.filename, kind=Kind.LINK, target=archive.read(info).decode("utf-8", "replace"))
        elif info.is_dir():
            yield Entry(name=info.filename, kind=Kind.DIRECTORY)
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _device(info.filename)
        else:
            content = partial(archive.open, info)
            yield Entry(name=info.filename, kind=Kind.FILE, size_bytes=info.file_size, open=content)


def _tar_entries(tar: tarfile.TarFile) -> Iterator[Entry]:
    # One header at a time, and none kept: the library's own list grows with a hostile archive.
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # Documented: "Return value: the members of the archive".
        if member.isdir():
            yield Entry(name=member.name, kind=Kind.DIRECTORY)
        elif member.isfile():
            content = partial(_member, tar, member)
            yield Entry(name=member.name, kind=Kind.FILE, size_bytes=member.size, open=content)
        elif member.issym():
            yield Entry(name=member.name, kind=Kind.LINK, target=member.linkname)
        elif member.islnk():
            # Relative to the archive's root, unlike a symbolic link's target; made one, so that it is checked as one.
            _inside(member.linkname)
            target = os.path.relpath(member.linkname, PurePosixPath(member.name).parent)
            yield Entry(name=member.name, kind=Kind.LINK, target=target)
        else:
            raise _device(member.name)


def _device(name: str) -> WrongContent:
    return WrongContent(f"entry {name!r} is a device or a pipe; pack only files, directories and links")


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None, "only asked for regular files"
    return content


def _write(entries: Iterable[Entry], destination: Path, limit_bytes: int) -> None:
    left_bytes, links = limit_bytes, []
    for number, entry in enumerate(entries):
        if number >= ENTRIES_MAX:
            raise WrongContent(f"it has more than {ENTRIES_MAX} entries")
        place = _inside(entry.name)
        if place == PurePosixPath("."):
            continue
        path = destination / place
        try:
            if entry.kind is Kind.LINK:
                links.append((entry, place))
            elif entry.kind is Kind.DIRECTORY:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                left_bytes -= _copy(entry, path, left_bytes, limit_bytes)
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            raise WrongContent(f"entry {entry.name!r} is a file and a directory at once") from None
    for entry, place in links:
        _link(entry, place, destination)
    check_links([destination / place for _, place in links], destination)


def _inside(name: str) -> PurePosixPath:
    """The entry's path below the destination; WrongContent where it is elsewhere."""
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or "\0" in name:
        raise WrongContent(f"entry {name[:200]!r} points outside the destination; pack it again")
    if len(name.encode(errors="surrogateescape")) > _PATH_BYTES_MAX or any(
        len(part.encode(errors="surrogateescape")) > NAME_BYTES_MAX for part in place.parts
    ):
        raise WrongContent(f"entry {name[:200]!r}... has a longer name than a disk can hold")
    return place


def _copy(entry: Entry, path: Path, left_bytes: int, limit_bytes: int) -> int:
    assert entry.open is not None, "files have content"
    too_much = WrongContent(f"it unpacks to more than {limit_bytes} bytes")
    if entry.size_bytes > left_bytes:  # Before a byte is written: a sparse entry of a terabyte is one header long.
        raise too_much
    written = 0
    with entry.open() as content, path.open("wb") as file:
        while chunk := content.read(_COPY_BYTES):
            written += len(chunk)
            if written > left_bytes:
                raise too_much
            file.write(chunk)
    return written


def _link(entry: Entry, place: PurePosixPath, destination: Path) -> None:
    target = PurePosixPath(os.path.normpath(place.parent / entry.target))
    if PurePosixPath(entry.target).is_absolute() or ".." in target.parts or "\0" in entry.target:
        raise _outside(entry.name, entry.target)
    path = destination / place
    if not path.parent.resolve().is_relative_to(destination.resolve()):
        raise _outside(entry.name, entry.target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(entry.target)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise WrongContent(f"entry {entry.name!r} is a link and something else at once") from None


def check_links(links: Iterable[Path], destination: Path) -> None:
    """WrongContent where one of the links leads out of `destination`, now that all of them are there.

    Each alone may look harmless: `a/up -> ..` is fine, and makes `a/up/..` leave the destination.
    """
    root = destination.resolve()
    for link in links:
        try:
            resolved = link.resolve()
        except RuntimeError:
            raise WrongContent(f"link {link.name!r} leads in a circle") from None
        if not resolved.is_relative_to(root):
            raise _outside(link.name, os.readlink(link))


def _outside(name: str, target: str) -> WrongContent:
    return WrongContent(f"link {name!r} points outside the destination, to {target!r}")
