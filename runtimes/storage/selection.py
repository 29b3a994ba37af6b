"""Which of a source's files are taken, and where they may go. (pure)"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from runtimes.storage.objects import RemoteFile
from runtimes.storage.uri import NoSuchSource, WrongContent

FILES_MAX = 1_000_000
"""Files of one source: a file system has only so many inodes. A guess, as for archives."""
NAME_BYTES_MAX = 255
"""Longest file name on Linux (NAME_MAX)."""


def is_selected(path: str, allow: Sequence[str], ignore: Sequence[str]) -> bool:
    """Whether a file is wanted: it matches an allowed pattern, where there are any, and no ignored one (KServe's order).

    Patterns are the shell's on the whole relative path, and `*` matches `/` too:

    >>> is_selected("onnx/model.onnx", ["*.onnx"], [])
    True
    """
    if allow and not any(fnmatchcase(path, pattern) for pattern in allow):
        return False
    return not any(fnmatchcase(path, pattern) for pattern in ignore)


def plan_selection(
    files: Sequence[RemoteFile], allow: Sequence[str] = (), ignore: Sequence[str] = ()
) -> tuple[RemoteFile, ...]:
    """The files to take, sorted by path; NoSuchSource where none is left, WrongContent for one that has no place."""
    selected = sorted((file for file in files if is_selected(file.path, allow, ignore)), key=lambda file: file.path)
    if not selected:
        raise NoSuchSource(
            f"none of its {len(files)} files is left by STORAGE_ALLOW_PATTERNS={','.join(allow) or '(all)'} and "
            f"STORAGE_IGNORE_PATTERNS={','.join(ignore) or '(none)'}"
            if files
            else "there is no file there"
        )
    if len(selected) > FILES_MAX:
        raise WrongContent(f"{len(selected)} files are more than {FILES_MAX}; choose some by STORAGE_ALLOW_PATTERNS")
    _check_places([file.path for file in selected])
    return tuple(selected)


def _check_places(paths: Sequence[str]) -> None:
    """Every path stays inside the destination and is neither another one's, nor one of its directories."""
    taken = set()
    for path in paths:
        check_place(path)
        if path in taken:
            raise WrongContent(f"file {path!r} is there twice")
        taken.add(path)
    for path in paths:
        for parent in PurePosixPath(path).parents:
            if str(parent) in taken:
                raise WrongContent(
                    f"{str(parent)!r} is a file and, for {path!r}, a directory; leave one out by STORAGE_IGNORE_PATTERNS"
                )


def check_place(path: str) -> None:
    """Nothing for a relative path that stays where it is put; WrongContent for any other, and for what no disk can hold."""
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise WrongContent(
            f"file name {path!r} points outside the destination or has an empty part; rename it, or leave it out by "
            "STORAGE_IGNORE_PATTERNS"
        )
    if any(len(part.encode(errors="surrogateescape")) > NAME_BYTES_MAX for part in parts):
        raise WrongContent(f"file name {path[:80]!r}... has a part of more than {NAME_BYTES_MAX} bytes")
