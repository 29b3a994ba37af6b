"""Addresses of services are known as long as a service has them, whoever looks and whenever he began."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from onebox.apiserver.addresses import ServiceAddresses
from onebox.apiserver.storage.database import Database
from onebox.apiserver.storage.records import ChangeType, Key, Record
from onebox.apiserver.storage.store import Store

A, B = Key("services", "ns", "a"), Key("services", "ns", "b")
OTHER = Key("things", "ns", "a")


def record(store: Store, key: Key, address: str) -> Record:
    data = orjson.dumps({"spec": {"clusterIP": address}})
    return Record(key, store.next_revision(), data, {}, {"spec.clusterIP": address})


async def test_an_address_is_taken_while_a_service_has_it(tmp_path: Path) -> None:
    store = Store(
        Database(tmp_path / "db"), lambda _, data: ({}, {"spec.clusterIP": orjson.loads(data)["spec"]["clusterIP"]})
    )
    store.load()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(store.run())
        await store.submit(ChangeType.ADDED, record(store, A, "10.96.0.1"))
        addresses = ServiceAddresses(store)
        assert addresses.is_taken("10.96.0.1")
        await store.submit(ChangeType.ADDED, record(store, B, "10.96.0.2"))
        await store.submit(ChangeType.ADDED, record(store, OTHER, "10.96.0.3"))
        await store.submit(ChangeType.MODIFIED, record(store, B, "10.96.0.2"))
        assert addresses.is_taken("10.96.0.2")
        assert not addresses.is_taken("10.96.0.3")
        await store.submit(ChangeType.DELETED, record(store, A, "10.96.0.1"))
        await store.submit(ChangeType.MODIFIED, record(store, B, "10.96.0.4"))
        taken = [number for number in range(1, 5) if addresses.is_taken(f"10.96.0.{number}")]
        assert taken == [4]
        running.cancel()
