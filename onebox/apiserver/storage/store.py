"""Current objects in memory, every change of them made durable before anyone sees it.

A write is decided and queued without awaiting in between, against `latest()`, which includes writes that are still on
their way to the disk; so no locks are needed and optimistic concurrency is exact. Readers and watches see a write when its
group is committed. If a commit fails, all that was queued on top of it fails with it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from controller.base.errors import TransientError
from controller.base.logging import get_logger
from onebox.apiserver.storage.database import Database
from onebox.apiserver.storage.history import History
from onebox.apiserver.storage.records import Change, ChangeType, Key, Record

log = get_logger(__name__)

_PENDING_MAX = 5_000
"""Writes on their way to the disk; above it writers are told to come back. A guess: three seconds of full load."""
_BATCH_MAX = 500
"""Writes in one transaction: enough to hide fsync, few enough that the first of them does not wait for long."""

Indexer = Callable[[str, bytes], tuple[Mapping[str, str], Mapping[str, str]]]
"""(resource, data) to the labels and selectable fields of an object."""
Listener = Callable[[Change], None]


class StorageBusy(TransientError):
    """Too many writes wait for the disk."""


class StorageFailed(TransientError):
    """The disk refused a commit; nothing of it is visible or kept."""


@dataclass(frozen=True, slots=True)
class _Queued:
    change: Change
    done: asyncio.Future[Record]


class Store:
    """All objects of one API server. `run` must be running for writes to proceed."""

    def __init__(self, database: Database, index: Indexer, history: History | None = None) -> None:
        self._database = database
        self._index = index
        self._objects: dict[str, dict[tuple[str, str], Record]] = {}
        self._uncommitted: dict[Key, Change] = {}
        self._queue: list[_Queued] = []
        self._wakeup = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="storage")
        self._listeners: list[Listener] = []
        self._compact_to = 0
        self.history = history or History()
        self.revision = 0
        """The newest committed revision: what a list is at."""
        self._next_revision = 1

    def load(self) -> None:
        """Reads the file; to be called once, before anything else."""
        for key, revision, data in self._database.objects():
            self._place(Record(key, revision, data, *self._index(key.resource, data)))
            self.revision = max(self.revision, revision)
        self._load_history()
        self._next_revision = self.revision + 1

    def get(self, key: Key) -> Record | None:
        """The committed state of one object."""
        return self._objects.get(key.resource, {}).get((key.namespace, key.name))

    def latest(self, key: Key) -> Record | None:
        """The state that a new write has to build on, committed or not."""
        pending = self._uncommitted.get(key)
        if pending is not None:
            return None if pending.type is ChangeType.DELETED else pending.record
        return self.get(key)

    def select(self, resource: str, namespace: str = "") -> list[Record]:
        """Committed objects in order of namespace and name, of one namespace or (where "") of all."""
        objects = self._objects.get(resource, {})
        if namespace:
            return [objects[address] for address in sorted(objects) if address[0] == namespace]
        return [objects[address] for address in sorted(objects)]

    def resources(self) -> Iterable[str]:
        """The resources that have, or once had, objects."""
        return tuple(self._objects)

    def subscribe(self, listener: Listener) -> None:
        """Calls `listener` with each change once it is committed, in order."""
        self._listeners.append(listener)

    def next_revision(self) -> int:
        """The revision that the next `submit` must carry."""
        return self._next_revision

    def submit(self, type_: ChangeType, record: Record) -> asyncio.Future[Record]:
        """Queues a write; the future completes when it is durable and visible."""
        if len(self._queue) >= _PENDING_MAX:
            raise StorageBusy("too many writes are waiting for the disk, please try again later")
        assert record.revision == self._next_revision, "a write was decided before another one was queued"
        self._next_revision += 1
        change = Change(type_, record, self.latest(record.key))
        self._uncommitted[record.key] = change
        queued = _Queued(change, asyncio.get_running_loop().create_future())
        self._queue.append(queued)
        self._wakeup.set()
        return queued.done

    async def run(self) -> None:
        """Writes groups to the disk until cancelled, then what is still queued."""
        try:
            while True:
                await self._wakeup.wait()
                self._wakeup.clear()
                while self._queue:
                    await self._commit_group()
        finally:
            while self._queue:
                self._publish_after(self._database.commit, self._take())
            self._executor.shutdown()
            self._database.close()

    async def _commit_group(self) -> None:
        group = self._take()
        loop = asyncio.get_running_loop()
        changes = [queued.change for queued in group]
        # Shielded: when the server stops, the group that the disk is working on must still be answered.
        commit = asyncio.shield(loop.run_in_executor(self._executor, self._database.commit, changes, self._compact_to))
        try:
            await commit
        except sqlite3.Error as error:
            self._fail(group, error)
            return
        except asyncio.CancelledError:
            self._executor.shutdown(wait=True)
            self._publish(group)
            raise
        self._publish(group)

    def _publish_after(self, commit: Callable[[list[Change]], None], group: list[_Queued]) -> None:
        try:
            commit([queued.change for queued in group])
        except sqlite3.Error as error:
            self._fail(group, error)
        else:
            self._publish(group)

    def _take(self) -> list[_Queued]:
        group, self._queue = self._queue[:_BATCH_MAX], self._queue[_BATCH_MAX:]
        return group

    def _publish(self, group: list[_Queued]) -> None:
        self._compact_to = 0
        for queued in group:
            record, change = queued.change.record, queued.change
            self._apply(change)
            self.revision = record.revision
            self.history.append(change)
            for listener in tuple(self._listeners):
                listener(change)
            if not queued.done.done():
                queued.done.set_result(record)
        if self.history.trim():
            self._compact_to = self.history.compacted

    def _apply(self, change: Change) -> None:
        record = change.record
        if change.type is ChangeType.DELETED:
            self._objects.get(record.key.resource, {}).pop((record.key.namespace, record.key.name), None)
        else:
            self._place(record)
        if self._uncommitted.get(record.key) is change:
            del self._uncommitted[record.key]

    def _fail(self, group: list[_Queued], error: sqlite3.Error) -> None:
        log.error("commit failed", error=str(error), writes=len(group) + len(self._queue))
        failed, self._queue = [*group, *self._queue], []
        self._uncommitted.clear()
        for queued in failed:
            if not queued.done.done():
                queued.done.set_exception(StorageFailed(f"the database refused the write: {error}"))

    def _place(self, record: Record) -> None:
        self._objects.setdefault(record.key.resource, {})[(record.key.namespace, record.key.name)] = record

    def _load_history(self) -> None:
        newest: dict[Key, Record] = {}
        first = True
        for type_, (key, revision, data) in self._database.changes():
            if first:
                self.history.compacted, first = revision - 1, False
            current = self.get(key)
            if current is not None and current.revision == revision:
                record = current  # The same bytes, once.
            else:
                record = Record(key, revision, data, *self._index(key.resource, data))
            self.history.append(Change(type_, record, newest.get(key)))
            newest[key] = record
            self.revision = max(self.revision, revision)
        if first:
            self.history.compacted = self.revision
