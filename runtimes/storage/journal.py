"""How far a file has come, kept beside it so that the next process continues where a killed one was.

The journal may lag behind the content, never be ahead of it. Killed processes lose nothing that they wrote; a machine that
crashes may, so that a journal of an earlier boot counts for nothing. (Rejected: a sync before each write of the journal,
which costs every small file several waits for the disk.)
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from ladle.clock import Clock
from runtimes.storage.parts import Span, merge_spans

INTERVAL_S = 2.0
"""Between two writes; what a killed process loses at most. A guess."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Journal:
    """The spans of one file that are in `content`. `kept`: whether another process may go on with them."""

    def __init__(self, path: Path, content: int, clock: Clock, *, kept: bool) -> None:
        self._path = path
        self._content = content
        self._clock = clock
        self._kept = kept
        self._lock = threading.Lock()
        self._told_s: float | None = None
        self._reached: dict[int, int] = {}
        self.complete = False
        """Whether the file is all there; for one of unknown size nothing else says so."""
        if kept:
            self._load()

    @property
    def spans(self) -> tuple[Span, ...]:
        """What is there."""
        with self._lock:
            return merge_spans(self._reached.items())

    @property
    def done_bytes(self) -> int:
        return sum(end - start for start, end in self.spans)

    @property
    def resumable(self) -> bool:
        """Whether there is something that another attempt could go on with."""
        return self._kept and self.done_bytes > 0

    def reach(self, start: int, end: int) -> None:
        """Notes that the part from `start` is there up to `end`; an `end` of `start` takes it back."""
        with self._lock:
            self._reached[start] = end
            now_s = self._clock.monotonic_s()
            due = self._told_s is None or now_s - self._told_s >= INTERVAL_S
            if due:
                self._told_s = now_s
        if due:
            self.save()

    def finish(self) -> None:
        """Notes that the file is all there."""
        self.complete = True
        self.save()

    def save(self) -> None:
        """Writes the journal, for the next process."""
        if not self._kept:
            return
        written = self._path.with_name(f"{self._path.name}.{threading.get_ident()}")
        written.write_text(json.dumps({"boot": _boot(), "spans": self.spans, "complete": self.complete}))
        os.replace(written, self._path)

    def _load(self) -> None:
        size_bytes = os.fstat(self._content).st_size
        try:
            stored = json.loads(self._path.read_text())
            if stored["boot"] != _boot():
                return
            # What is beyond the content's end is not there, whatever the journal says.
            self._reached = {int(start): min(int(end), size_bytes) for start, end in stored["spans"]}
            self.complete = bool(stored["complete"]) and all(int(end) <= size_bytes for _, end in stored["spans"])
        except (OSError, ValueError, TypeError, KeyError):
            self._reached = {}  # None yet, or cut off by a crash: the file begins anew.


def _boot() -> str:
    """Differs from one start of the machine to the next."""
    return _BOOT_ID.read_text().strip()
