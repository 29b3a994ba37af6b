"""What the core asks of a store, and what a store says about its files. The same for http, s3, gs, hf and azure.

A scheme module lists and reads, nothing else. Filters, parallel parts, retries, resuming, checks, the cache, unpacking,
publishing and progress are the core's. The module has one function:

    def open_source(uri: StorageUri, env: Mapping[str, str]) -> Source

which imports what it needs, reads credentials from `env`, and makes no request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ladle.errors import TransientError


class Algorithm(StrEnum):
    """How a store's digest was made."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    GIT_SHA1 = "git-sha1"
    """Of a git blob: SHA-1 over `blob <size>\\0` and the content."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest of a whole file as its store states it; `hexadecimal` in lower case."""

    algorithm: Algorithm
    hexadecimal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file of a source, as it was when it was listed."""

    path: str
    """Relative to the source's root, with `/`: `config.json`, `onnx/model.onnx`. The core refuses one that escapes."""
    size_bytes: int | None
    """None where the store does not say; such a file is read in one stream."""
    version: str | None = None
    """Changes when the content does (ETag, generation, commit). None: never resumed in another process, never cached."""
    digest: Digest | None = None
    """What the content is checked against, beside its size; None where the store states none."""
    key: str = ""
    """For the source only: what finds the file again (an object key, a URL)."""
    ranged: bool = True
    """Whether several parts may be read at once. False: one stream from the start."""
    content_type: str = ""
    """Media type without parameters, where the store's is worth a check (http)."""


class Changed(TransientError):
    """A file is not the one that was listed: the core lists again and starts anew."""


class Source(Protocol):
    """A place with files. The core calls `read` from several threads at once; `list` and `close` from one."""

    def list(self) -> Sequence[RemoteFile]:
        """Every file below the URI, empty ones too, in any order.

        NoSuchSource where nothing is there, AccessDenied for credentials, StorageUnavailable for what is worth a retry.
        """
        ...

    def read(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[bytes]:
        """Bytes [offset, offset + length) in pieces of at most some MiB; to the end where `length` is None.

        The store is asked for exactly this version where it can be (If-Match, generation); Changed where it has another.
        Ending early, OSError and StorageUnavailable are retried from where the file is; UserErrors are final.
        The core may stop in the middle and closes the iterator: free the connection in a `finally`.
        """
        ...

    def close(self) -> None:
        """Frees connections. Called once, also after an error."""
        ...
