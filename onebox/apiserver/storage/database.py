"""The durable side: current objects and a log of changes in one SQLite file, written in groups.

WAL with synchronous=FULL: a commit returns when its bytes are on the disk, so kill -9 (and power loss, as far as the disk
keeps its word) loses nothing that was acknowledged. All calls block; one thread makes them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from onebox.apiserver.storage.records import Change, ChangeType, Key

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY, type TEXT NOT NULL,
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL
);
"""
_WAL_PAGES_MAX = 1000
"""Pages in the write-ahead log before SQLite copies them into the file: SQLite's own default (4 MB)."""
_LOCK_S = 5.0
"""How long to wait for a server that is just going away. A guess: it stops within three."""
_CACHE_KIB = 1024
"""SQLite's page cache. Reads come from memory, so that it only serves the B-tree pages being written."""

Row = tuple[Key, int, bytes]


class Database:
    """One open file, locked against other processes; sqlite3.OperationalError where another one has it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_LOCK_S)
        execute = self._connection.execute
        # Held for as long as this process lives: a second server must not write behind the first one's memory.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES_MAX}")
        execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._connection.executescript(_SCHEMA)
        execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def objects(self) -> Iterator[Row]:
        """Every current object."""
        for resource, namespace, name, revision, data in self._connection.execute("SELECT * FROM objects"):
            yield Key(resource, namespace, name), revision, data

    def changes(self) -> Iterator[tuple[ChangeType, Row]]:
        """The log, oldest first."""
        rows = self._connection.execute(
            "SELECT revision, type, resource, namespace, name, data FROM log ORDER BY revision"
        )
        for revision, type_, resource, namespace, name, data in rows:
            yield ChangeType(type_), (Key(resource, namespace, name), revision, data)

    def commit(self, changes: Sequence[Change], compact_to: int = 0) -> None:
        """Writes the changes, and forgets history up to and including revision `compact_to`, all or nothing."""
        execute, executemany = self._connection.execute, self._connection.executemany
        execute("BEGIN IMMEDIATE")
        try:
            executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", _log_rows(changes))
            for kind, rows in _runs(changes):
                if kind is ChangeType.DELETED:
                    executemany("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", rows)
                else:
                    executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", rows)
            if compact_to:
                execute("DELETE FROM log WHERE revision <= ?", (compact_to,))
            execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Copies the write-ahead log into the file and closes it."""
        self._connection.close()


def _log_rows(changes: Iterable[Change]) -> Iterator[tuple[int, str, str, str, str, bytes]]:
    for change in changes:
        record = change.record
        key = record.key
        yield record.revision, change.type.value, key.resource, key.namespace, key.name, record.data


def _runs(changes: Sequence[Change]) -> Iterator[tuple[ChangeType, list[tuple[object, ...]]]]:
    """Groups neighbours that need the same statement: order must hold, for one key may occur twice."""
    rows: list[tuple[object, ...]] = []
    deleting = False
    for change in changes:
        record, key = change.record, change.record.key
        if rows and deleting != (change.type is ChangeType.DELETED):
            yield (ChangeType.DELETED if deleting else ChangeType.ADDED), rows
            rows = []
        deleting = change.type is ChangeType.DELETED
        address = (key.resource, key.namespace, key.name)
        rows.append(address if deleting else (*address, record.revision, record.data))
    if rows:
        yield (ChangeType.DELETED if deleting else ChangeType.ADDED), rows
