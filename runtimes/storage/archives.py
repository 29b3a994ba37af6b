"""Unpacking what strangers packed: nothing outside the target, no devices, no bombs.

Every member is looked at before the first one is written.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ladle.errors import BadModel

_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
_ZIP_ENDINGS = (".zip",)
MEMBERS_MAX = 100_000
"""Most files in one archive; a guess well above any model."""
UNPACKED_MAX_BYTES = 1 << 40
"""Most bytes that an archive may unpack to: 1 TiB, above any model and below most harm."""
RATIO_MAX = 1000
"""Most that content may expand; deflate cannot exceed 1032 (zlib's documentation), models stay far below 100."""
RATIO_FREE_BYTES = 100 << 20
"""Up to this much, a ratio says nothing: a small file of zeros is no bomb."""


@dataclass(frozen=True, slots=True)
class Member:
    """What matters of one member before it is unpacked."""

    name: str
    size_bytes: int


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked: .tar, .tar.gz, .tgz or .zip."""
    return name.lower().endswith((*_TAR_ENDINGS, *_ZIP_ENDINGS))


def unpack(uri: str, archive: Path, destination: Path) -> None:
    """Replaces `archive` by its content; BadModel where it is damaged or would do harm. `uri` is for the message."""
    try:
        if archive.name.lower().endswith(_ZIP_ENDINGS):
            _unpack_zip(uri, archive, destination)
        else:
            _unpack_tar(uri, archive, destination)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The disk's problem, not the archive's.
        raise BadModel(f"{uri}: {archive.name} could not be unpacked: {error}") from error


def _unpack_tar(uri: str, archive: Path, destination: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        _check(uri, archive, (Member(member.name, member.size) for member in members))
        odd = next(
            (
                member
                for member in members
                if not (member.isfile() or member.isdir() or member.islnk() or member.issym())
            ),
            None,
        )
        if odd is not None:
            raise BadModel(
                f"{uri}: {odd.name} in {archive.name} is a device or a pipe; pack only files, directories and links"
            )
        archive.unlink()  # Its name may be a member's name; the open file stays readable.
        tar.extractall(destination, filter="data")


def _unpack_zip(uri: str, archive: Path, destination: Path) -> None:
    with zipfile.ZipFile(archive) as pack:
        members = pack.infolist()
        _check(uri, archive, (Member(member.filename, member.file_size) for member in members))
        linked = next((member for member in members if stat.S_ISLNK(member.external_attr >> 16)), None)
        if linked is not None:
            raise BadModel(f"{uri}: {linked.filename} in {archive.name} is a link; zip archives may hold only files")
        archive.unlink()
        pack.extractall(destination)  # noqa: S202 - every member was checked above.


def _check(uri: str, archive: Path, members: Iterable[Member]) -> None:
    total_bytes = 0
    for count, member in enumerate(members, 1):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise BadModel(
                f"{uri}: {member.name!r} in {archive.name} points outside the model's directory; pack it again"
            )
        total_bytes += member.size_bytes
        if count > MEMBERS_MAX:
            raise BadModel(f"{uri}: {archive.name} holds more than {MEMBERS_MAX} files")
    allowed_bytes = max(RATIO_FREE_BYTES, RATIO_MAX * archive.stat().st_size)
    if total_bytes > min(allowed_bytes, UNPACKED_MAX_BYTES):
        raise BadModel(
            f"{uri}: {archive.name} would unpack from {archive.stat().st_size} to {total_bytes} bytes; that is no model"
        )
