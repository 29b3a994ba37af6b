from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from controller.base.clock import SystemClock
from controller.kube.errors import Unavailable
from controller.kube.events import EventRecorder
from controller.kube.informer import Informer
from controller.kube.resources import CONFIG_MAPS, PODS
from controller.reconcile.apply import Applier
from controller.reconcile.diff import Apply, Delete, Finalizers, Status, Tell, Write
from controller.reconcile.plan import Child, Event
from tests.controller.kube.scripted_api import Connection, connected, status

OWNER_PATH = "/api/v1/namespaces/ns/pods/owner"
CHILD_PATH = "/api/v1/namespaces/ns/configmaps/c"
MANAGER = "ladle"


def child(**data: str) -> Child:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}, "data": data}
    return Child(resource=CONFIG_MAPS, manifest=manifest)


class World:
    def __init__(self, connection: Connection) -> None:
        self.api = connection.api
        self.owner = connection.api.put(OWNER_PATH, {"apiVersion": "v1", "kind": "Pod", "status": {"a": 1}})
        self.informers = {
            resource: Informer(connection.client, resource, clock=SystemClock(), rng=random.Random(1))
            for resource in (PODS, CONFIG_MAPS)
        }
        recorder = EventRecorder(connection.client, "ladle", SystemClock())
        self.applier = Applier(connection.client, field_manager=MANAGER, informers=self.informers, events=recorder)

    def writes(self) -> list[str]:
        return [method for method, _ in self.api.requests if method in ("POST", "PUT", "PATCH", "DELETE")]


@asynccontextmanager
async def a_world(folder: Path) -> AsyncIterator[World]:
    async with connected(folder) as connection, asyncio.TaskGroup() as tasks:
        world = World(connection)
        running = [tasks.create_task(informer.run()) for informer in world.informers.values()]
        for informer in world.informers.values():
            await informer.synced()
        yield world
        for task in running:
            task.cancel()


async def test_writes_are_done_in_order_and_seen_by_the_caches_at_once(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        writes: list[Write] = [
            Finalizers(("f",), world.owner["metadata"]["resourceVersion"]),
            Apply(child(x="1")),
            Status({"status": {"a": 2}}),
            Tell(Event(type="Normal", reason="R", message="m")),
        ]
        await world.applier.execute(world.owner, writes)
        owner: Any = world.informers[PODS].get("ns", "owner")
        assert owner["metadata"]["finalizers"] == ["f"]
        assert owner["status"] == {"a": 2}
        stored: Any = world.informers[CONFIG_MAPS].get("ns", "c")
        assert stored["data"] == {"x": "1"}
        assert world.writes() == ["PATCH", "PATCH", "PATCH", "POST"]


async def test_a_failed_write_ends_the_rest(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.api.answers.append(status(503, "ServiceUnavailable"))
        with pytest.raises(Unavailable):
            await world.applier.execute(world.owner, [Apply(child()), Status({"status": {"a": 2}})])
        assert world.writes() == ["PATCH"]


async def test_deleting_names_the_uid(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.api.put(CHILD_PATH, {})
        await world.applier.execute(world.owner, [Delete(CONFIG_MAPS, "c", "ns", "some-uid")])
        assert CHILD_PATH not in world.api.objects
        assert b'"uid":"some-uid"' in world.api.bodies[-1][2]


async def test_a_server_that_fills_in_fields_of_its_own_is_asked_once(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        wanted = child(x="1")
        # The server stores something else than what was asked for, every time.
        kept = {**wanted.manifest, "data": {"x": "one"}}
        kept["metadata"] = {**kept["metadata"], "uid": "u", "generation": 1, "resourceVersion": "500"}
        world.api.answers.append(web.Response(body=orjson.dumps(kept), content_type="application/json"))
        await world.applier.execute(world.owner, [Apply(wanted)])
        await world.applier.execute(world.owner, [Apply(wanted)])
        assert world.writes() == ["PATCH"]
        await world.applier.execute(world.owner, [Apply(child(x="2"))])
        assert world.writes() == ["PATCH", "PATCH"]
