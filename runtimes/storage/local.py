"""`file://` and plain paths: symbolic links, so that a model of any size is in place at once.

KServe does the same. Where the destination's file system has no links, files are copied. A single archive is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from urllib.parse import unquote

from runtimes.storage.archive import is_archive, unpack
from runtimes.storage.publish import staged
from runtimes.storage.selection import is_selected
from runtimes.storage.settings import Settings
from runtimes.storage.space import writing_to
from runtimes.storage.uri import BadUri, NoSuchSource, StorageUri, WrongContent

_LOCAL_HOSTS = ("", "localhost")
_CLAIMS = Path("/mnt/pvc")
"""Where KServe's control plane mounts the volume of a pvc:// URI."""


def fetch(uri: StorageUri, destination: Path, settings: Settings) -> None:
    """Links what the URI names into `destination`: a directory's entries, or the file under its own name."""
    source = local_path(uri)
    try:
        sources = _entries(source, settings)
    except PermissionError:
        raise NoSuchSource(
            f"{source} may not be read by this user; check the permissions of it and its parents"
        ) from None
    if uri.sha256:
        _check_digest(source, uri.sha256)
    with writing_to(destination), staged(destination) as staging:
        if len(sources) == 1 and sources[0].is_file() and is_archive(sources[0].name):
            unpack(sources[0], staging.files)
            return
        for entry in sources:
            target = staging.files / (entry.relative_to(source) if entry != source else entry.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(entry, target)


def _entries(source: Path, settings: Settings) -> list[Path]:
    """What is linked: the file, the entries of the directory, or, where there are patterns, the files that match."""
    if not source.exists():
        raise _missing(source)
    if not source.is_dir():
        return [source]
    entries = sorted(source.iterdir())
    if not entries:
        raise NoSuchSource(f"there is no file there: {source} is an empty directory")
    if not settings.allow and not settings.ignore:
        return entries
    files = [path for path in sorted(source.rglob("*")) if not path.is_dir()]
    selected = [
        path for path in files if is_selected(path.relative_to(source).as_posix(), settings.allow, settings.ignore)
    ]
    if not selected:
        raise NoSuchSource(
            f"none of the {len(files)} files there is left by STORAGE_ALLOW_PATTERNS={','.join(settings.allow)} and "
            f"STORAGE_IGNORE_PATTERNS={','.join(settings.ignore)}"
        )
    return selected


def _missing(source: Path) -> NoSuchSource:
    if not source.is_relative_to(_CLAIMS):
        return NoSuchSource(f"{source} does not exist on this machine; check storageUri")
    if not _CLAIMS.exists():
        return NoSuchSource(
            f"{source} does not exist: no volume is mounted at {_CLAIMS}; is the claim of pvc:// bound?"
        )
    return NoSuchSource(f"{source} does not exist in the volume; check the path after pvc://CLAIM/")


def local_path(uri: StorageUri) -> Path:
    """The absolute path that a URI or plain path names; BadUri for a file on another host."""
    if not uri.scheme:
        return Path(uri.location).absolute()
    host, slash, path = uri.location.removeprefix("file://").partition("/")
    if host not in _LOCAL_HOSTS:
        raise BadUri(f"file:// takes an absolute path after three slashes: file:///{host}{slash}{path}")
    return Path(slash + unquote(path))


def link_or_copy(source: Path, target: Path) -> None:
    """A symbolic link at `target`, or a copy where links cannot be made."""
    try:
        os.symlink(source, target)
    except (PermissionError, NotImplementedError):
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)


def _check_digest(source: Path, expected: str) -> None:
    if not source.is_file():
        raise BadUri(f"#sha256= pins a single file, and {source} is a directory")
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise WrongContent(f"sha256 of {source} is {found}, expected {expected}")
