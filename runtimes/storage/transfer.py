"""One file on its way from a source to a directory here: in parts, retried, resumed. What it holds is checked elsewhere."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from ladle.clock import Clock
from ladle.errors import StorageUnavailable
from ladle.log import get_logger
from runtimes.storage.journal import Journal
from runtimes.storage.objects import Changed, RemoteFile, Source
from runtimes.storage.parallel import Stopped, run_all
from runtimes.storage.parts import Part, plan_parts
from runtimes.storage.progress import Progress
from runtimes.storage.settings import Settings
from runtimes.storage.space import writing_to

FAILURES_MAX = 6
"""Transfers in a row without progress before it is given up."""
ATTEMPTS_MAX = 100
"""Transfers in all, also where each brings a little. A guess: a terabyte over a line that breaks every 10 GB."""
BACKOFF_FIRST_S = 0.25
"""Wait before the second attempt; doubles with each further one, with jitter. A guess, as is the most."""
_BACKOFF_MAX_S = 8.0
CONTENT, JOURNAL = "content", "journal.json"
_RETRIED = (StorageUnavailable, OSError)
_Value = TypeVar("_Value")

log = get_logger("runtimes.storage")


@dataclass(slots=True, kw_only=True)
class Retries:
    """Counts attempts and waits between them; StorageUnavailable when they are used up."""

    source: str
    stop: threading.Event
    attempts: int = 0
    failures: int = 0
    rng: random.Random = field(default_factory=random.Random)

    def after(self, error: Exception, *, progressed: bool) -> None:
        """Waits before the next attempt; raises StorageUnavailable where there is none, Stopped where nobody wants it."""
        self.attempts += 1
        self.failures = 1 if progressed else self.failures + 1
        reason = str(error) or type(error).__name__
        if self.failures >= FAILURES_MAX or self.attempts >= ATTEMPTS_MAX:
            raise StorageUnavailable(
                f"tried {self.attempts} times, last: {reason}; is the server up and reachable from here?"
            ) from error
        delay_s = min(_BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (self.failures - 1)) * self.rng.uniform(0.5, 1.0)
        log.warning("transfer broke off", source=self.source, reason=reason, retry_in_s=round(delay_s, 3))
        if self.stop.wait(delay_s):
            raise Stopped


def with_retries(ask: Callable[[], _Value], retries: Retries) -> _Value:
    """The answer of `ask`, which may fail a few times."""
    while True:
        try:
            return ask()
        except _RETRIED as error:
            retries.after(error, progressed=False)


@dataclass(slots=True)
class _Cursor:
    """Where the next byte of a part goes."""

    part: Part
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """What all files of one source have in common on their way."""

    source: Source
    shown: str
    """The URI for people."""
    settings: Settings
    progress: Progress
    clock: Clock
    stop: threading.Event

    def carry(self, file: RemoteFile, folder: Path) -> Path:
        """The file's whole content, in the directory `folder`, which holds what an earlier attempt left.

        StorageUnavailable when retries are used up, Changed for another version, DiskFull; what came so far is kept.
        """
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            content = os.open(folder / CONTENT, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._fill(file, folder, content)
        finally:
            os.close(content)
        return folder / CONTENT

    def _fill(self, file: RemoteFile, folder: Path, content: int) -> None:
        with writing_to(folder):
            journal = Journal(folder / JOURNAL, content, self.clock, kept=file.version is not None)
        self.progress.already(journal.done_bytes)
        if journal.complete:
            return
        several = file.ranged and file.version is not None
        parts = plan_parts(file.size_bytes, journal.spans, self.settings.part_bytes if several else None)
        transfer = _Transfer(carrier=self, file=file, folder=folder, content=content, journal=journal)
        try:
            most = min(self.settings.part_concurrency, len(parts)) or 1
            run_all((partial(transfer.bring, part) for part in parts), most=most, stop=self.stop)
        except BaseException:  # Whatever it was, the next attempt goes on from here; the first error counts.
            with contextlib.suppress(OSError):
                journal.save()
            if not journal.resumable:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        with writing_to(folder):
            os.ftruncate(content, file.size_bytes if file.size_bytes is not None else journal.done_bytes)
            journal.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transfer:
    """One file being brought."""

    carrier: Carrier
    file: RemoteFile
    folder: Path
    content: int
    journal: Journal

    def bring(self, part: Part) -> None:
        cursor = _Cursor(part, part.start)
        retries = Retries(source=f"{self.carrier.shown} {self.file.path}", stop=self.carrier.stop)
        while True:
            before = cursor.at
            try:
                self._stream(cursor)
                return
            except _RETRIED as error:
                if self.file.version is None:
                    self._take_back(cursor)  # Nothing says that the rest would be the same file's.
                retries.after(error, progressed=cursor.at > before)

    def _stream(self, cursor: _Cursor) -> None:
        end = cursor.part.end
        pieces = self.carrier.source.read(self.file, cursor.at, None if end is None else end - cursor.at)
        with contextlib.ExitStack() as stack:
            if hasattr(pieces, "close"):
                stack.callback(pieces.close)
            for piece in pieces:
                if self.carrier.stop.is_set():
                    raise Stopped
                if end is not None and cursor.at + len(piece) > end:
                    raise Changed(f"{self.file.path} has more bytes than the store said")
                self._write(piece, cursor)
        if end is not None and cursor.at < end:
            raise StorageUnavailable(f"it ended {end - cursor.at} bytes early")

    def _write(self, piece: bytes, cursor: _Cursor) -> None:
        with writing_to(self.folder, self.file.size_bytes):
            rest = memoryview(piece)
            while rest:
                written = os.pwrite(self.content, rest, cursor.at)
                cursor.at, rest = cursor.at + written, rest[written:]
            self.journal.reach(cursor.part.start, cursor.at)
        self.carrier.progress.add(len(piece))

    def _take_back(self, cursor: _Cursor) -> None:
        self.carrier.progress.already(cursor.part.start - cursor.at)
        cursor.at = cursor.part.start
        self.journal.reach(cursor.part.start, cursor.at)
