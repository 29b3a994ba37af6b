"""kill -9 at any moment: what was acknowledged is there afterwards, and history goes on."""

from __future__ import annotations

import asyncio

from controller.kube.client import WatchType
from controller.kube.errors import ApiError
from controller.kube.resources import CONFIG_MAPS, CRDS, INFERENCE_SERVICES, ResourceType
from tests.onebox_api import ApiProcess

GIZMOS = ResourceType("example.com", "v1", "gizmos", "Gizmo")

_WRITERS = 8
_ACKNOWLEDGED_BEFORE_KILL = 200
_WAIT_S = 30.0


def _config(name: str, value: str = "1") -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": {"k": value},
    }


class Acknowledged:
    """What writers were told, and a signal when it is enough to kill the server."""

    def __init__(self) -> None:
        self.revisions: dict[str, int] = {}
        self.enough = asyncio.Event()

    def note(self, name: str, revision: int) -> None:
        self.revisions[name] = revision
        if len(self.revisions) >= _ACKNOWLEDGED_BEFORE_KILL:
            self.enough.set()


async def _write_until_refused(api: ApiProcess, writer: int, acknowledged: Acknowledged) -> None:
    count = 0
    while True:
        name = f"w{writer}-{count}"
        try:
            created = await api.client.create(CONFIG_MAPS, _config(name))
        except ApiError:
            return  # The server was killed: nobody was told that this one is stored.
        acknowledged.note(name, int(created["metadata"]["resourceVersion"]))
        count += 1


async def test_what_was_acknowledged_survives_kill_9(api: ApiProcess) -> None:
    acknowledged = Acknowledged()
    async with asyncio.timeout(_WAIT_S), asyncio.TaskGroup() as tasks:
        for writer in range(_WRITERS):
            tasks.create_task(_write_until_refused(api, writer, acknowledged))
        await acknowledged.enough.wait()
        api.kill()
    await api.start()
    stored = await api.client.list(CONFIG_MAPS, "default")
    revisions = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in stored.items}
    lost = {name for name, revision in acknowledged.revisions.items() if revisions.get(name) != revision}
    assert lost == set()
    again = await api.client.create(CONFIG_MAPS, _config("after"))
    assert int(again["metadata"]["resourceVersion"]) > max(revisions.values())


async def test_a_watch_goes_on_where_it_was_after_a_restart(api: ApiProcess) -> None:
    first = await api.client.create(CONFIG_MAPS, _config("a"))
    await api.client.patch(CONFIG_MAPS, "a", "default", {"data": {"k": "2"}})
    await api.client.create(CONFIG_MAPS, _config("b"))
    await api.client.delete(CONFIG_MAPS, "b", "default")
    api.kill()
    await api.start()
    seen = []
    since = first["metadata"]["resourceVersion"]
    async with asyncio.timeout(_WAIT_S):
        async for event in api.client.watch(CONFIG_MAPS, "default", resource_version=since, timeout_s=_WAIT_S):
            seen.append((event.type, event.object["metadata"]["name"], event.object["data"]["k"]))
            if len(seen) == 3:
                break
    assert seen == [
        (WatchType.MODIFIED, "a", "2"),
        (WatchType.ADDED, "b", "1"),
        (WatchType.DELETED, "b", "1"),
    ]


async def test_a_restart_changes_nothing_by_itself(api: ApiProcess) -> None:
    before = await api.client.list(CRDS)
    assert await api.stop() == 0
    await api.start()
    after = await api.client.list(CRDS)
    assert after == before
    assert (await api.client.list(INFERENCE_SERVICES)).items == []


async def test_definitions_of_users_are_served_again_after_a_restart(api: ApiProcess) -> None:
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gizmos.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
                        }
                    },
                }
            ],
        },
    }
    await api.client.create(CRDS, definition)
    await api.client.create(GIZMOS, _gizmo("a"))
    await api.stop()
    await api.start()
    assert (await api.client.get(GIZMOS, "a", "default"))["spec"] == {"size": 1}
    await api.client.delete(CRDS, "gizmos.example.com")
    await api.client.create(CRDS, definition)
    assert (await api.client.list(GIZMOS)).items == []


def _gizmo(name: str) -> dict[str, object]:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Gizmo",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"size": 1, "unknown": True},
    }
