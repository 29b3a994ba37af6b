"""Storage by itself: real SQLite files, groups, failures, history."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from onebox.apiserver.storage.database import Database
from onebox.apiserver.storage.history import History
from onebox.apiserver.storage.records import Change, ChangeType, Key, Record
from onebox.apiserver.storage.store import StorageFailed, Store

A, B = Key("things", "ns", "a"), Key("things", "ns", "b")


def _index(_: str, data: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
    return orjson.loads(data).get("labels", {}), {}


def _record(store: Store, key: Key, value: str = "1") -> Record:
    return Record(key, store.next_revision(), orjson.dumps({"value": value}), {}, {})


@asynccontextmanager
async def _store(path: Path, history: History | None = None) -> AsyncIterator[Store]:
    store = Store(Database(path), _index, history)
    store.load()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(store.run())
        yield store
        running.cancel()


async def test_writes_become_visible_in_order_and_survive_reopening(tmp_path: Path) -> None:
    async with _store(tmp_path / "db") as store:
        first = store.submit(ChangeType.ADDED, _record(store, A))
        second = store.submit(ChangeType.MODIFIED, _record(store, A, "2"))
        latest = store.latest(A)
        assert store.get(A) is None
        assert latest is not None
        assert b'"2"' in latest.data
        assert (await first).revision == 1
        assert (await second).revision == 2
        assert store.revision == 2
    async with _store(tmp_path / "db") as store:
        found = store.get(A)
        assert found is not None
        assert found.revision == 2
        assert [change.type for change in store.history.since(0)] == [ChangeType.ADDED, ChangeType.MODIFIED]
        assert store.next_revision() == 3


async def test_what_was_deleted_and_made_again_in_one_group_is_there(tmp_path: Path) -> None:
    async with _store(tmp_path / "db") as store:
        store.submit(ChangeType.ADDED, _record(store, A))
        store.submit(ChangeType.DELETED, _record(store, A))
        assert store.latest(A) is None
        store.submit(ChangeType.ADDED, _record(store, A, "again"))
        await store.submit(ChangeType.ADDED, _record(store, B))
        assert [record.key.name for record in store.select("things")] == ["a", "b"]
    async with _store(tmp_path / "db") as store:
        found = store.get(A)
        assert found is not None
        assert b"again" in found.data


async def test_writes_that_are_queued_when_the_server_stops_are_written(tmp_path: Path) -> None:
    async with _store(tmp_path / "db") as store:
        futures = [
            store.submit(ChangeType.ADDED, _record(store, Key("things", "", str(index)))) for index in range(1500)
        ]
        await futures[0]
    assert all(future.done() and future.exception() is None for future in futures)
    async with _store(tmp_path / "db") as store:
        assert len(store.select("things")) == 1500


class _FullDisk:
    """A database whose commits fail when told so."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.full = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def commit(self, changes: Sequence[Change], compact_to: int = 0) -> None:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        self._database.commit(changes, compact_to)


async def test_a_failed_commit_fails_everything_built_on_it_and_leaves_no_trace(tmp_path: Path) -> None:
    database = _FullDisk(Database(tmp_path / "db"))
    store = Store(database, _index)  # type: ignore[arg-type]  # Stands in for the disk, which no test can fill.
    store.load()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(store.run())
        await store.submit(ChangeType.ADDED, _record(store, A))
        database.full = True
        lost = [store.submit(ChangeType.MODIFIED, _record(store, A, str(number))) for number in range(3)]
        for future in lost:
            with pytest.raises(StorageFailed):
                await future
        kept = store.latest(A)
        assert kept is not None
        assert kept.revision == 1
        database.full = False
        assert (await store.submit(ChangeType.MODIFIED, _record(store, A, "later"))).revision > 1
        running.cancel()


async def test_a_writer_that_gives_up_disturbs_nobody(tmp_path: Path) -> None:
    async with _store(tmp_path / "db") as store:
        futures = [store.submit(ChangeType.ADDED, _record(store, Key("things", "", str(index)))) for index in range(3)]
        futures[1].cancel()
        assert (await futures[0]).revision == 1
        assert (await futures[2]).revision == 3
        assert len(store.select("things")) == 3


def _change(revision: int, size: int = 10) -> Change:
    return Change(ChangeType.ADDED, Record(Key("things", "", str(revision)), revision, b"x" * size, {}, {}))


def test_history_forgets_the_oldest_beyond_its_count() -> None:
    history = History(changes_max=100)
    for revision in range(1, 151):
        history.append(_change(revision))
        history.trim()
    kept = [change.record.revision for change in history.since(history.compacted)]
    assert kept[-1] == 150
    assert len(kept) <= 100
    assert kept[0] == history.compacted + 1


def test_history_forgets_the_oldest_beyond_its_bytes_but_never_the_newest() -> None:
    history = History(bytes_max=1000)
    for revision in range(1, 6):
        history.append(_change(revision, 400))
    assert history.trim()
    assert [change.record.revision for change in history.since(history.compacted)] == [4, 5]
    history.append(_change(6, 5000))
    assert history.trim()
    assert [change.record.revision for change in history.since(history.compacted)] == [6]


async def test_compaction_reaches_the_file(tmp_path: Path) -> None:
    async with _store(tmp_path / "db", History(changes_max=50)) as store:
        for index in range(200):
            await store.submit(ChangeType.ADDED, _record(store, Key("things", "", str(index))))
    database = Database(tmp_path / "db")
    assert len(list(database.changes())) <= 60
    assert len(list(database.objects())) == 200
    database.close()
