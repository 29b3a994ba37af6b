from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from controller.base.errors import TransientError, UserError
from controller.kube.client import Deadlines, KubeClient, WatchType
from controller.kube.errors import AlreadyExists, Conflict, Gone, NotFound, Rejected, Unavailable
from controller.kube.resources import CONFIG_MAPS, NODES, PODS, resource_type_of
from tests.controller.kube.scripted_api import Connection, connected, status, write_kubeconfig

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "ns"}}
PATH = "/api/v1/namespaces/ns/pods/a"


def test_paths_follow_kubernetes_url_scheme() -> None:
    deployments = resource_type_of("apps/v1", "Deployment")
    assert deployments.path() == "/apis/apps/v1/deployments"
    assert deployments.path("ns", "a", "scale") == "/apis/apps/v1/namespaces/ns/deployments/a/scale"
    assert PODS.path("ns") == "/api/v1/namespaces/ns/pods"
    assert NODES.path(None, "onebox", "status") == "/api/v1/nodes/onebox/status"
    assert NODES.path("ignored", "onebox") == "/api/v1/nodes/onebox"


def test_an_unknown_kind_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"batch/v2"):
        resource_type_of("batch/v2", "Job")


async def test_create_get_patch_delete_round_trip(connection: Connection) -> None:
    client = connection.client
    created = await client.create(PODS, POD)
    assert created["metadata"]["uid"]
    assert (await client.get(PODS, "a", "ns"))["metadata"]["uid"] == created["metadata"]["uid"]
    patched = await client.patch(PODS, "a", "ns", {"spec": {"x": 1}}, subresource="status", field_manager="m")
    assert patched["spec"] == {"x": 1}
    await client.delete(PODS, "a", "ns", uid=created["metadata"]["uid"], grace_period_s=0)
    with pytest.raises(NotFound):
        await client.get(PODS, "a", "ns")
    verb, path, body = connection.api.bodies[-2]
    assert (verb, path) == ("DELETE", PATH)
    options = orjson.loads(body)
    assert options["preconditions"] == {"uid": created["metadata"]["uid"]}
    assert (options["propagationPolicy"], options["gracePeriodSeconds"]) == ("Background", 0)


async def test_every_request_carries_token_and_user_agent(connection: Connection) -> None:
    await connection.client.list(PODS)
    assert connection.api.headers[0]["Authorization"] == "Bearer secret"
    assert connection.api.headers[0]["User-Agent"] == "test"


async def test_apply_names_its_field_manager_and_forces(connection: Connection) -> None:
    await connection.client.apply(PODS, POD, field_manager="ladle")
    assert connection.api.requests == [("PATCH", f"{PATH}?fieldManager=ladle&force=true")]
    assert connection.api.headers[0]["Content-Type"] == "application/apply-patch+yaml"


async def test_a_list_is_followed_over_all_pages_and_items_know_their_kind(connection: Connection) -> None:
    connection.api.page_size_max = 2
    for name in "abcde":
        connection.api.put(f"/api/v1/namespaces/ns/pods/{name}", {})
    found = await connection.client.list(PODS, label_selector="app=x")
    assert [item["metadata"]["name"] for item in found.items] == list("abcde")
    assert all((item["apiVersion"], item["kind"]) == ("v1", "Pod") for item in found.items)
    assert found.resource_version == str(connection.api.version)
    assert len(connection.api.lists()) == 3
    assert all("labelSelector=app%3Dx" in path or "labelSelector=app=x" in path for path in connection.api.lists())


async def test_a_list_whose_pages_expire_is_read_again_in_one_piece(connection: Connection) -> None:
    connection.api.put(PATH, {})
    connection.api.answers.append(status(410, "Expired"))
    assert len((await connection.client.list(PODS, "ns")).items) == 1
    assert "limit" not in connection.api.lists()[1]


async def test_deleting_what_is_gone_succeeds(connection: Connection) -> None:
    await connection.client.delete(PODS, "a", "ns")
    connection.api.answers.append(status(409, "Conflict"))
    await connection.client.delete(PODS, "a", "ns", uid="of the one that was there before")


async def test_a_conflict_without_uid_is_the_callers(connection: Connection) -> None:
    connection.api.answers.append(status(409, "Conflict"))
    with pytest.raises(Conflict):
        await connection.client.delete(PODS, "a", "ns")


@pytest.mark.parametrize(
    ("code", "reason", "error", "family"),
    [
        (400, "BadRequest", Rejected, UserError),
        (401, "Unauthorized", Unavailable, TransientError),
        (403, "Forbidden", Rejected, UserError),
        (404, "NotFound", NotFound, TransientError),
        (409, "Conflict", Conflict, TransientError),
        (409, "AlreadyExists", AlreadyExists, TransientError),
        (410, "Expired", Gone, TransientError),
        (422, "Invalid", Rejected, UserError),
        (429, "TooManyRequests", Unavailable, TransientError),
        (500, "InternalError", Unavailable, TransientError),
        (503, "ServiceUnavailable", Unavailable, TransientError),
    ],
)
async def test_answers_become_errors_of_the_right_family(
    connection: Connection, code: int, reason: str, error: type[Exception], family: type[Exception]
) -> None:
    causes = [{"reason": "FieldValueInvalid", "message": "too small", "field": "spec.lo"}]
    connection.api.answers.append(status(code, reason, "no", causes=causes))
    with pytest.raises(error) as caught:
        await connection.client.get(PODS, "a", "ns")
    assert isinstance(caught.value, family)
    found = caught.value
    assert (found.status, found.reason, found.message) == (code, reason, "no")  # type: ignore[attr-defined]
    assert found.causes[0].field == "spec.lo"  # type: ignore[attr-defined]


async def test_an_answer_that_is_no_status_object_still_says_something(connection: Connection) -> None:
    connection.api.answers.append(web.Response(status=502, text="<html>bad gateway"))
    with pytest.raises(Unavailable, match="bad gateway"):
        await connection.client.get(PODS, "a", "ns")


async def test_no_server_is_unavailable(tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path / "config", {"server": "http://127.0.0.1:1"}, {})
    async with KubeClient.open(file, user_agent="test") as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
            await client.get(NODES, "a")


async def test_an_answer_that_never_comes_is_unavailable(tmp_path: Path) -> None:
    async with connected(tmp_path, Deadlines(request_s=0.1)) as opened:
        opened.api.hangs = True
        async with asyncio.timeout(30):
            with pytest.raises(Unavailable, match="GET /api/v1/namespaces/ns/pods/a"):
                await opened.client.get(PODS, "a", "ns")
        opened.api.hangs = False
        assert (await opened.client.list(PODS)).items == []


async def test_watch_yields_changes_and_bookmarks_from_a_version_on(connection: Connection) -> None:
    api = connection.api
    version = api.put(PATH, {"n": 1})["metadata"]["resourceVersion"]
    api.put(PATH, {"n": 2})
    api.bookmark()
    api.remove(PATH)
    watch = connection.client.watch(
        PODS, "ns", resource_version=version, field_selector="metadata.name=a", timeout_s=10
    )
    events = [await anext(watch) for _ in range(3)]
    await watch.aclose()
    assert [event.type for event in events] == [WatchType.MODIFIED, WatchType.BOOKMARK, WatchType.DELETED]
    assert events[0].object["n"] == 2
    asked = api.watches()[0]
    assert "allowWatchBookmarks=true" in asked
    assert "timeoutSeconds=10" in asked
    assert "fieldSelector=" in asked


async def test_an_object_larger_than_the_read_buffer_comes_through(connection: Connection) -> None:
    connection.api.put("/api/v1/namespaces/ns/configmaps/big", {"data": {"x": "y" * 1_500_000}})
    connection.api.put("/api/v1/namespaces/ns/configmaps/small", {"data": {}})
    watch = connection.client.watch(CONFIG_MAPS, resource_version="0", timeout_s=10)
    big, small = await anext(watch), await anext(watch)
    await watch.aclose()
    assert len(big.object["data"]["x"]) == 1_500_000
    assert small.object["metadata"]["name"] == "small"


async def test_an_expired_watch_is_gone(connection: Connection) -> None:
    connection.api.put(PATH, {})
    connection.api.expire()
    with pytest.raises(Gone):
        await anext(connection.client.watch(PODS, resource_version="1", timeout_s=10))


async def test_an_error_event_inside_a_watch_is_raised(connection: Connection) -> None:
    api = connection.api
    api.history.append((200, "ERROR", PATH, {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}))
    with pytest.raises(Gone, match="too old"):
        await anext(connection.client.watch(PODS, resource_version="1", timeout_s=10))


async def test_a_silent_watch_is_given_up(tmp_path: Path) -> None:
    async with connected(tmp_path, Deadlines(watch_silence_s=0.2)) as opened:
        opened.api.mute = True
        opened.api.put(PATH, {})
        async with asyncio.timeout(30):
            with pytest.raises(Unavailable):
                await anext(opened.client.watch(PODS, resource_version="0", timeout_s=60))


async def test_cancelling_one_request_leaves_the_others_alone(connection: Connection) -> None:
    connection.api.put(PATH, {})
    watch = connection.client.watch(PODS, resource_version=str(connection.api.version), timeout_s=60)

    async def wait() -> None:
        await anext(watch)

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait())
        assert (await connection.client.get(PODS, "a", "ns"))["metadata"]["name"] == "a"
        waiting.cancel()
    assert (await connection.client.get(PODS, "a", "ns"))["metadata"]["name"] == "a"
