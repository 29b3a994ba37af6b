"""A cache of files by their SHA-256, shared between pods and safe between processes.

    blobs/ab/abcd...     content, read-only; hard-linked or cloned to where it is needed
    index/<key>.json     which blob a file of a source is, in a certain version
    incoming/<key>/      what is being downloaded, or was when its downloader died; incoming/<key>.lock while somebody does

A blob's time of modification is its seal: a fixed date plus its size in seconds. Whoever writes to the file moves it, and a
file that was cut short has another size; a blob with a broken seal is read again, and given up unless its digest is right.
A blob's time of access is when it was last used; we set it ourselves, since mounts differ in whether reading does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ladle.clock import Clock
from ladle.log import get_logger
from runtimes.storage.checks import digests_of
from runtimes.storage.links import READ_ONLY, link_content
from runtimes.storage.locks import locked, try_lock
from runtimes.storage.objects import Algorithm

_SEAL_EPOCH_S = 315_532_800
"""1980-01-01: a date that no download has."""
_SEAL_SPAN_S = 2**30
WAIT_S = 3600.0
"""For another process that downloads the same; then this one does it itself. A guess: 360 GB at 100 MB/s."""
ABANDONED_S = 7 * 24 * 3600.0
"""Age of an unfinished download that nobody went on with. A guess."""

log = get_logger("runtimes.storage")


@dataclass(frozen=True, slots=True)
class Known:
    """What the index says of a file."""

    sha256: str
    path: str
    """Its path in its source."""


class Cache:
    """The cache in the directory `root`, of at most `bytes_max` bytes. Any thread of any process may use it."""

    def __init__(self, root: Path, bytes_max: int, clock: Clock) -> None:
        self.root = root
        self.bytes_max = bytes_max
        self._clock = clock
        self._blobs, self._index, self._incoming = root / "blobs", root / "index", root / "incoming"
        for folder in (self._blobs, self._index, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def known(self, key: str) -> Known | None:
        """What the index has for `key`; None where it has nothing that can be read."""
        try:
            stored = json.loads((self._index / f"{key}.json").read_text())
            return Known(str(stored["sha256"]), str(stored["path"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def place(self, sha256: str, target: Path) -> bool:
        """Puts the blob at `target`, read-only; False where there is none, or it was damaged and is gone now."""
        blob = self._blob(sha256)
        try:
            if not self._is_intact(blob, sha256):
                return False
            link_content(blob, target)
        except FileNotFoundError:
            return False  # Not there, or evicted at this moment.
        self._touch(blob)
        return True

    def add(self, content: Path, known: Known, key: str) -> None:
        """Takes the file `content`, whose digest is known, into the cache, and notes it under `key`."""
        blob = self._blob(known.sha256)
        blob.parent.mkdir(exist_ok=True)
        with content.open("rb") as file:
            os.fsync(file.fileno())  # The cache outlives the machine's next crash, and must not name what is not there.
        content.chmod(READ_ONLY)
        self._seal(content)
        os.replace(content, blob)
        self.note(known, key)
        self.make_room(0)

    def note(self, known: Known, key: str) -> None:
        """Notes under `key` which blob a file is."""
        descriptor, written = tempfile.mkstemp(dir=self._index, prefix=".")
        with os.fdopen(descriptor, "w") as file:
            json.dump({"sha256": known.sha256, "path": known.path}, file)
        os.replace(written, self._index / f"{key}.json")

    @contextlib.contextmanager
    def claim(self, key: str, stop: threading.Event) -> Iterator[Path | None]:
        """The directory where `key` is downloaded, for this process alone; None where another one took too long over it."""
        with locked(self._incoming / f"{key}.lock", stop=stop, timeout_s=WAIT_S) as ours:
            yield self._incoming / key if ours else None

    def done_bytes(self, key: str) -> int:
        """Bytes on the disk of an unfinished download."""
        try:
            return sum(path.stat().st_blocks * 512 for path in (self._incoming / key).iterdir())
        except OSError:
            return 0

    def discard(self, key: str) -> None:
        """Removes what was downloaded for `key`; its claim is held."""
        shutil.rmtree(self._incoming / key, ignore_errors=True)

    def make_room(self, needed_bytes: int) -> None:
        """Removes the blobs that were not used for longest until `needed_bytes` more fit, and abandoned downloads."""
        self._remove_abandoned()
        blobs = [(path, status) for path in self._blobs.glob("*/*") if (status := _status(path))]
        total_bytes = sum(status.st_size for _, status in blobs)
        if total_bytes + needed_bytes <= self.bytes_max:
            return
        # One that a pod has linked frees nothing while the pod is there: those go last.
        for path, status in sorted(blobs, key=lambda blob: (blob[1].st_nlink > 1, blob[1].st_atime_ns)):
            if total_bytes + needed_bytes <= self.bytes_max:
                break
            path.unlink(missing_ok=True)
            total_bytes -= status.st_size
            log.info("evicted from the cache", sha256=path.name, bytes=status.st_size)
        self._prune_index()

    def _blob(self, sha256: str) -> Path:
        return self._blobs / sha256[:2] / sha256

    def _is_intact(self, blob: Path, sha256: str) -> bool:
        status = blob.stat()
        if int(status.st_mtime) == _seal_s(status.st_size):
            return True
        if digests_of(blob, [Algorithm.SHA256])[Algorithm.SHA256] == sha256:
            self._seal(blob)  # Only its time was changed.
            return True
        log.warning("cached file was damaged, it is fetched again", sha256=sha256, path=str(blob))
        blob.unlink(missing_ok=True)
        return False

    def _seal(self, path: Path) -> None:
        self._set_times(path, _seal_s(path.stat().st_size))

    def _touch(self, blob: Path) -> None:
        with contextlib.suppress(OSError):  # Evicted just now, or another user's: then reading it has to count as use.
            self._set_times(blob, int(blob.stat().st_mtime))

    def _set_times(self, path: Path, modified_s: int) -> None:
        os.utime(path, ns=(int(self._clock.wall_s() * 1e9), modified_s * 10**9))

    def _remove_abandoned(self) -> None:
        oldest_s = self._clock.wall_s() - ABANDONED_S
        for folder in self._incoming.iterdir():
            status = _status(folder)
            if folder.suffix == ".lock" or status is None or status.st_mtime > oldest_s:
                continue
            lock_path = folder.with_name(f"{folder.name}.lock")
            lock = try_lock(lock_path)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                lock_path.unlink(missing_ok=True)
                os.close(lock)

    def _prune_index(self) -> None:
        for entry in self._index.glob("*.json"):
            known = self.known(entry.stem)
            if known is None or not self._blob(known.sha256).exists():
                entry.unlink(missing_ok=True)


def _seal_s(size_bytes: int) -> int:
    return _SEAL_EPOCH_S + size_bytes % _SEAL_SPAN_S


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
