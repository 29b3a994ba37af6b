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
from runtimes.storage.uri import BadUri, NoSuchSource, StorageUri, WrongContent

_LOCAL_HOSTS = ("", "localhost")


def fetch(uri: StorageUri, destination: Path) -> None:
    """Links what the URI names into `destination`: a directory's entries, or the file under its own name."""
    source = local_path(uri)
    try:
        sources = _entries(source)
    except PermissionError:
        raise NoSuchSource(
            f"{source} may not be read by this user; check the permissions of it and its parents"
        ) from None
    if uri.sha256:
        _check_digest(source, uri.sha256)
    if not sources:
        raise NoSuchSource(f"there is no file there: {source} is an empty directory")
    with staged(destination) as staging:
        if len(sources) == 1 and sources[0].is_file() and is_archive(sources[0].name):
            unpack(sources[0], staging.files)
            return
        for entry in sources:
            link_or_copy(entry, staging.files / entry.name)


def _entries(source: Path) -> list[Path]:
    if not source.exists():
        raise NoSuchSource(f"{source} does not exist on this machine; check storageUri")
    return sorted(source.iterdir()) if source.is_dir() else [source]


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
