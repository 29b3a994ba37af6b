"""Digests of files on disk, and their comparison with what a store states and a URI pins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runtimes.storage.objects import Algorithm, Digest, RemoteFile
from runtimes.storage.uri import WrongContent

_CHUNK_BYTES = 1024 * 1024


def digests_of(path: Path, algorithms: Iterable[Algorithm]) -> dict[Algorithm, str]:
    """The hexadecimal digests of the file at `path`, all in one reading."""
    wanted = set(algorithms)
    if not wanted:
        return {}
    hashes = {algorithm: _new_hash(algorithm, path.stat().st_size) for algorithm in wanted}
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            for made in hashes.values():
                made.update(chunk)
    return {algorithm: made.hexdigest() for algorithm, made in hashes.items()}


def check_content(path: Path, file: RemoteFile, pinned_sha256: str, *, name_content: bool) -> str:
    """The SHA-256 of the file, which is what was asked for; "" where nobody asked and `name_content` is false.

    WrongContent where the store's digest or the pinned one is another.
    """
    expected = [file.digest] if file.digest else []
    expected += [Digest(Algorithm.SHA256, pinned_sha256)] if pinned_sha256 else []
    wanted = {digest.algorithm for digest in expected} | ({Algorithm.SHA256} if name_content else set())
    found = digests_of(path, wanted)
    for digest in expected:
        if found[digest.algorithm] != digest.hexadecimal:
            whose = "the pinned one" if digest.hexadecimal == pinned_sha256 else "the one that the store states"
            raise WrongContent(
                f"{file.path} has {digest.algorithm} {found[digest.algorithm]}, not {whose}, {digest.hexadecimal}; it "
                "changed or was damaged on the way"
            )
    return found.get(Algorithm.SHA256, "")


def _new_hash(algorithm: Algorithm, size_bytes: int) -> Any:
    # Not for secrecy where it is MD5 or SHA-1: they find damage, and are what stores state.
    match algorithm:
        case Algorithm.GIT_SHA1:
            return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
        case _:
            return hashlib.new(algorithm.value, usedforsecurity=False)
