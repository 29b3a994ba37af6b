"""Who watches what, and what each of them has not been sent yet. Fan-out only: sending is the handler's.

A change is turned into bytes once for all watchers that want it in the same form.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from onebox.apiserver.selectors import Selector
from onebox.apiserver.storage.records import Change, ChangeType, Record
from onebox.apiserver.storage.store import Store

_UNSENT_MAX = 10_000
"""Events that a slow watcher may lag behind; then it is cut off and has to resume. A guess: a full history."""

Encode = Callable[[ChangeType, Record], bytes]


class Watcher:
    """One watch: gets changes from the hub, gives lines to its handler."""

    def __init__(self, resource: str, namespace: str, selector: Selector, encode: Encode, form: object) -> None:
        self.resource = resource
        self.form = form
        """Watchers of equal form get the same bytes."""
        self._namespace = namespace
        self._selector = selector
        self.encode = encode
        self._unsent: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self.lagging = False
        """It fell too far behind and must be closed."""

    def accept(self, change: Change, encoded: dict[object, bytes]) -> None:
        """Takes note of a change, if it concerns this watch. `encoded` is shared by all watchers of this change."""
        if self._namespace and change.record.key.namespace != self._namespace:
            return
        type_, record = change.type, change.record
        if not self._selector.everything:
            seen = self._as_seen(change)
            if seen is None:
                return
            type_, record = seen
        form = (self.form, type_)
        line = encoded.get(form)
        if line is None:
            line = encoded[form] = self.encode(type_, record)
        self.push(line)

    def push(self, line: bytes) -> None:
        """Queues one line."""
        if len(self._unsent) >= _UNSENT_MAX:
            self.lagging = True
        else:
            self._unsent.append(line)
        self._arrived.set()

    async def take(self, timeout_s: float) -> bytes:
        """All lines that wait, as one chunk; empty after `timeout_s` without any."""
        if not self._unsent:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                return b""
        chunk = b"".join(self._unsent)
        self._unsent.clear()
        return chunk

    def _as_seen(self, change: Change) -> tuple[ChangeType, Record] | None:
        """A change of an object as a change of what the selector lets through."""
        matches = self._selector.matches
        now = change.type is not ChangeType.DELETED and matches(change.record)
        # Where history was cut, what an object was before is unknown: telling of one too many deletions is harmless.
        before = change.type is not ChangeType.ADDED and (change.previous is None or matches(change.previous))
        if now:
            return (ChangeType.MODIFIED if before else ChangeType.ADDED), change.record
        if before:
            return ChangeType.DELETED, change.record
        return None


class WatchHub:
    """All watchers, found by the resource that they watch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # The inner mapping is a set that keeps its order: watchers hear of a change in the order in which they came.
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self.closing = asyncio.Event()
        """Set when the server stops: watches end, so that clients resume elsewhere or later."""
        store.subscribe(self._on_change)

    def __len__(self) -> int:
        return sum(len(watchers) for watchers in self._watchers.values())

    def add(self, watcher: Watcher, since: int) -> bool:
        """Starts a watch after revision `since`; False where history no longer reaches back so far."""
        history = self._store.history
        if since < history.compacted or since > self._store.revision:
            return False
        for change in history.since(since):
            if change.record.key.resource == watcher.resource:
                watcher.accept(change, {})
        self._watchers.setdefault(watcher.resource, {})[watcher] = None
        return True

    def remove(self, watcher: Watcher) -> None:
        self._watchers.get(watcher.resource, {}).pop(watcher, None)

    def _on_change(self, change: Change) -> None:
        watchers = self._watchers.get(change.record.key.resource)
        if watchers:
            encoded: dict[object, bytes] = {}
            for watcher in tuple(watchers):
                watcher.accept(change, encoded)

    def close(self) -> None:
        """Ends all watches."""
        self.closing.set()
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.push(b"")
