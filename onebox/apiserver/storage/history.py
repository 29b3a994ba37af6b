"""What happened lately, so that a watch can go on from where it stopped. Bounded by count and by bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from onebox.apiserver.storage.records import Change

CHANGES_MAX = 10_000
"""Changes kept. A guess: ten minutes of 500 services becoming ready; etcd's compaction keeps five minutes."""
BYTES_MAX = 8 << 20
"""Bytes of objects kept, as far as history alone keeps them alive; a guess that fits the memory budget."""


class History:
    """Changes in order of revision; the oldest are dropped when there are too many."""

    def __init__(self, *, changes_max: int = CHANGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._changes: list[Change] = []
        self._bytes = 0
        self._changes_max = changes_max
        self._bytes_max = bytes_max
        self.compacted = 0
        """Revision up to which history is forgotten: a watch must start at it or later."""

    def append(self, change: Change) -> None:
        self._changes.append(change)
        self._bytes += len(change.record.data)

    def trim(self) -> bool:
        """Drops what exceeds the bounds, a tenth more than needed so that it is rarely called for; True if anything went."""
        if len(self._changes) <= self._changes_max and self._bytes <= self._bytes_max:
            return False
        count_wanted, bytes_wanted = self._changes_max * 9 // 10, self._bytes_max * 9 // 10
        drop = max(0, len(self._changes) - count_wanted)
        left = self._bytes - sum(len(change.record.data) for change in self._changes[:drop])
        # The newest change stays in any case: after a restart it is what says how far revisions had got.
        while left > bytes_wanted and drop < len(self._changes) - 1:
            left -= len(self._changes[drop].record.data)
            drop += 1
        if drop == 0:
            return False
        self.compacted = self._changes[drop - 1].record.revision
        del self._changes[:drop]
        self._bytes = left
        return True

    def since(self, revision: int) -> Iterator[Change]:
        """Changes after this revision. The caller has checked that it is not below `compacted`."""
        start = bisect_right(self._changes, revision, key=lambda change: change.record.revision)
        for index in range(start, len(self._changes)):
            yield self._changes[index]
