"""`file://` and plain paths: links instead of copies, so that a large model costs neither time nor space."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ladle.errors import BadModel
from runtimes.storage.archives import is_archive


def fetch(uri: str, destination: Path) -> None:
    """Links the file, or each entry of the directory, into `destination`; BadModel where there is none or it is unreadable."""
    source = _path(uri)
    try:
        entries = sorted(source.iterdir()) if source.is_dir() else [source]
        if not source.exists():
            raise BadModel(f"{uri}: {source} does not exist on this machine; check storageUri")
    except PermissionError:
        raise BadModel(
            f"{uri}: {source} may not be read by this user; check the permissions of it and its parents"
        ) from None
    for entry in entries:
        if len(entries) == 1 and is_archive(entry.name):
            shutil.copyfile(entry, destination / entry.name)  # It is unpacked and removed: never the original.
        else:
            (destination / entry.name).symlink_to(entry.resolve())


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return Path(uri)
    if parts.netloc not in ("", "localhost"):
        raise BadModel(f"{uri}: file:// takes an absolute path after three slashes: file:///{parts.netloc}{parts.path}")
    return Path(unquote(parts.path))
