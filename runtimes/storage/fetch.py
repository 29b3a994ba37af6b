"""One source into one directory: stage beside it, check, unpack, publish.

Files appear in the destination by rename, complete or not at all. A scheme is one module with `fetch(uri, destination)`
and one line in SCHEMES; it only has to put files into an empty directory.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

from ladle.errors import BadModel, Unsupported
from runtimes.storage.archives import is_archive, unpack

SCHEMES: Mapping[str, str] = {
    "": "runtimes.storage.local",
    "file": "runtimes.storage.local",
    "http": "runtimes.storage.http",
    "https": "runtimes.storage.http",
}
"""Scheme of a URI → module. Modules are imported when used, so that a local model costs no library of a cloud."""

_STAGING = ".ladle-staging"
"""Directory inside the destination: the same file system, so that publishing is a rename."""
_CHUNK_BYTES = 1 << 20


def fetch(uri: str, destination: Path) -> None:
    """Puts the files of `uri` into `destination`; an archive that is all there is, is unpacked.

    `#sha256=HEX` at the end of the URI pins the content of a single file. Raises UserError where the source or its content
    is wrong, TransientError where it did not answer, OSError where the destination cannot be written.
    """
    source, digest = _split_pin(uri)
    scheme = urlsplit(source).scheme.lower()
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES if name)
        raise Unsupported(f"{uri}: the scheme {scheme}:// is not supported here; supported are {known} and local paths")
    staging = destination / _STAGING
    shutil.rmtree(staging, ignore_errors=True)  # What an initializer that was killed left behind.
    staging.mkdir(parents=True)
    try:
        importlib.import_module(SCHEMES[scheme]).fetch(source, staging)
        _check(uri, staging, digest)
        _publish(staging, destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _split_pin(uri: str) -> tuple[str, str | None]:
    parts = urlsplit(uri)
    pins = parse_qs(parts.fragment).get("sha256")
    if not pins:
        return uri, None
    return urlunsplit(parts._replace(fragment="")), pins[0].lower()


def _check(uri: str, staging: Path, digest: str | None) -> None:
    files = list(staging.iterdir())
    if not files:
        raise BadModel(f"{uri}: there is no file there; the URI must name a model's file or a directory that holds it")
    single = files[0] if len(files) == 1 and files[0].is_file() else None
    if digest is not None:
        _check_digest(uri, single, digest)
    if single is not None and is_archive(single.name):
        unpack(uri, single, staging)


def _check_digest(uri: str, single: Path | None, digest: str) -> None:
    if single is None:
        raise BadModel(f"{uri}: sha256 pins the content of one file, and this is a directory; pin an archive of it")
    found = hashlib.sha256()
    with single.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    if found.hexdigest() != digest:
        raise BadModel(
            f"{uri}: the content has sha256 {found.hexdigest()}, not the pinned one; it changed or is damaged"
        )


def _publish(staging: Path, destination: Path) -> None:
    for entry in staging.iterdir():
        target = destination / entry.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)  # From an earlier run of this initializer in the same volume.
        os.replace(entry, target)
