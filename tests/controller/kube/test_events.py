from __future__ import annotations

from controller.api.meta import Resource
from controller.base.clock import SystemClock
from controller.kube.events import EventRecorder, build_event
from controller.kube.resources import EVENTS
from tests.controller.kube.scripted_api import Connection, status

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "ns", "uid": "u1"}}


async def stored(connection: Connection) -> list[tuple[str, int]]:
    found = (await connection.client.list(EVENTS)).items
    return sorted((event["message"], event["count"]) for event in found)


async def test_the_same_event_is_counted_and_another_one_is_new(connection: Connection) -> None:
    recorder = EventRecorder(connection.client, "ladle", SystemClock())
    for message in ("one", "one", "two", "one"):
        await recorder.record(POD, reason="Started", message=message)
    assert await stored(connection) == [("one", 3), ("two", 1)]


async def test_a_restarted_recorder_counts_on(connection: Connection) -> None:
    for _ in range(2):
        await EventRecorder(connection.client, "ladle", SystemClock()).record(POD, reason="Started", message="one")
    assert await stored(connection) == [("one", 2)]


async def test_an_event_that_expired_begins_anew(connection: Connection) -> None:
    recorder = EventRecorder(connection.client, "ladle", SystemClock())
    await recorder.record(POD, reason="Started", message="one")
    connection.api.remove(next(path for path in connection.api.objects if "/events/" in path))
    await recorder.record(POD, reason="Started", message="one")
    assert await stored(connection) == [("one", 1)]


async def test_a_refused_event_does_not_stop_the_work(connection: Connection) -> None:
    connection.api.answers.append(status(403, "Forbidden"))
    await EventRecorder(connection.client, "ladle", SystemClock()).record(POD, reason="Started", message="one")
    assert await stored(connection) == []


async def test_typed_objects_can_have_events_too(connection: Connection) -> None:
    recorder = EventRecorder(connection.client, "ladle", SystemClock())
    await recorder.record(Resource.parse(POD), type_="Warning", reason="Failed", message="m")
    event = (await connection.client.list(EVENTS)).items[0]
    assert event["involvedObject"] == {"apiVersion": "v1", "kind": "Pod", "name": "a", "namespace": "ns", "uid": "u1"}
    assert (event["type"], event["source"]) == ("Warning", {"component": "ladle"})


def test_events_of_cluster_scoped_objects_live_in_default_and_long_messages_are_cut() -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n" * 300}}
    event = build_event(node, component="c", type_="Normal", reason="R", message="m" * 5000)
    assert event["metadata"]["namespace"] == "default"
    assert len(event["message"]) == 1024
    assert len(event["metadata"]["name"]) <= 253
