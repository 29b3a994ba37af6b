"""What a test does with a source: list it, read it whole or in part."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from ladle.errors import TransientError
from runtimes.storage.objects import RemoteFile, Source


def contents(source: Source) -> Mapping[str, bytes]:
    """All files by path; each read in two ranges where it has two bytes, so that ranges are always tried."""
    with contextlib.closing(source):
        return {file.path: whole(source, file) for file in source.list()}


def whole(source: Source, file: RemoteFile) -> bytes:
    half = (file.size_bytes or 0) // 2
    if half:
        return b"".join(source.read(file, 0, half)) + b"".join(source.read(file, half, None))
    return b"".join(source.read(file, 0, None))


def transient(source: Source) -> TransientError:
    """The error with which listing fails, which must be one that is retried."""
    with contextlib.closing(source):
        try:
            source.list()
        except TransientError as error:
            return error
    raise AssertionError("it was listed")
