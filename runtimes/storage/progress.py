"""The progress line in the log: bytes, percent and MB/s, at most every few seconds."""

from __future__ import annotations

import threading

from ladle.clock import Clock
from ladle.log import get_logger

INTERVAL_S = 5.0
"""Between two lines. A choice of ours: a minute's download has a dozen."""
_MEGABYTE = 1e6

log = get_logger("runtimes.storage")


class Progress:
    """Counts the bytes of all files of one source; any thread may call `add`."""

    def __init__(self, source: str, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._began_s = self._told_s = clock.monotonic_s()
        self._total_bytes: int | None = None
        self._here_bytes = 0
        self.received_bytes = 0
        """Bytes that came over the network."""

    def expect(self, total_bytes: int | None) -> None:
        """Sets the size of everything, None where it is not known, and begins the count anew."""
        with self._lock:
            self._total_bytes, self._here_bytes = total_bytes, 0

    def already(self, count_bytes: int) -> None:
        """Bytes that need not be fetched: of an earlier attempt, or from the cache; negative for lost ones."""
        with self._lock:
            self._here_bytes += count_bytes

    def add(self, count_bytes: int) -> None:
        """Bytes that were received just now; writes a line when one is due."""
        with self._lock:
            self.received_bytes += count_bytes
            self._here_bytes += count_bytes
            now_s = self._clock.monotonic_s()
            if now_s - self._told_s < INTERVAL_S:
                return
            self._told_s = now_s
            line = self._line(now_s)
        log.info("downloading", **line)

    def _line(self, now_s: float) -> dict[str, object]:
        line: dict[str, object] = {"source": self._source, "bytes": self._here_bytes}
        if self._total_bytes:
            line |= {
                "total_bytes": self._total_bytes,
                "percent": round(100 * self._here_bytes / self._total_bytes, 1),
            }
        return line | {"mb_per_s": self.rate(now_s)}

    def rate(self, now_s: float) -> float:
        """MB/s over the network since the start."""
        return round(self.received_bytes / _MEGABYTE / max(now_s - self._began_s, 1e-6), 2)
