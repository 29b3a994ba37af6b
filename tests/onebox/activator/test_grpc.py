"""gRPC through the activator: waiting for a pod, every kind of call, limits as statuses, one place for each stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from onebox.knative.activator.limits import Limits
from tests.onebox.activator.conftest import Bench
from tests.onebox.activator.raw import raw_pod
from tests.onebox.fake_pod import FakePod
from tests.onebox.knative_world import PodPorts
from tests.runtimes.foreign_grpc import DEADLINE_S, ForeignGrpc, channel, foreign_grpc, method
from tests.waiting import eventually

TO = (("knative-serving-revision", "r-1"), ("knative-serving-namespace", "default"))


def as_pod(foreign: ForeignGrpc, name: str = "pod-1") -> FakePod:
    pod = FakePod(name)
    pod.ports = PodPorts(name, foreign.port, 0)
    return pod


@asynccontextmanager
async def behind(bench: Bench, **spec: object) -> AsyncIterator[tuple[ForeignGrpc, grpc.aio.Channel]]:
    """A server of gRPC as the only pod, and a client of the activator."""
    async with foreign_grpc() as foreign, channel(bench.activator.port) as client:
        await bench.put(ready=[as_pod(foreign)], **spec)
        yield foreign, client


async def call(client: grpc.aio.Channel, name: str, message: bytes = b"", timeout: float = DEADLINE_S) -> str:
    """The answer to one message, or the status and its text."""
    try:
        answer: bytes = await client.unary_unary(method(name))(message, timeout=timeout, metadata=TO)
        return answer.decode()
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {error.details()}"


async def until(what: str, condition) -> None:  # type: ignore[no-untyped-def]  # Any callable.
    async def holds() -> bool:
        return bool(condition())

    await eventually(what, holds)


def in_flight(bench: Bench) -> int:
    return sum(pod.in_flight for pod in bench.target().throttle.pods)


async def test_a_call_keeps_its_metadata_and_says_how_it_came(bench: Bench) -> None:
    async with behind(bench) as (foreign, client):
        made = client.unary_unary(method("Echo"))(b"hello", timeout=DEADLINE_S, metadata=(*TO, ("x-mine", "1")))
        assert await made == b"hello"
        assert dict(await made.initial_metadata())["x-initial"] == "1"
        assert dict(await made.trailing_metadata())["x-trailing"] == "2"
        await until("the place is free", lambda: in_flight(bench) == 0)
    metadata = foreign.metadata[0]
    assert (metadata["x-mine"], metadata["k-proxy-request"]) == ("1", "activator")
    assert metadata["k-original-host"] == f"127.0.0.1:{bench.activator.port}"
    assert not set(dict(TO)) & set(metadata)


async def test_streams_in_every_direction(bench: Bench) -> None:
    async with behind(bench) as (_, client):
        numbers = client.unary_stream(method("Count"))(b"100", timeout=DEADLINE_S, metadata=TO)
        assert [number async for number in numbers] == [b"%d" % number for number in range(100)]
        talk = client.stream_stream(method("Talk"))(timeout=DEADLINE_S, metadata=TO)
        for word in (b"one", b"two"):
            await talk.write(word)
            assert await talk.read() == b"you said " + word
            assert in_flight(bench) == 1
        await talk.done_writing()
        assert await talk.read() is grpc.aio.EOF
        await until("the place is free", lambda: in_flight(bench) == 0)


async def test_calls_wait_for_a_pod_and_their_messages_with_them(bench: Bench) -> None:
    await bench.put()
    large = "x" * 1_000_000
    async with channel(bench.activator.port) as client, asyncio.TaskGroup() as group:
        small = group.create_task(call(client, "Echo", b"small"))
        calls = [group.create_task(call(client, "Echo", large.encode())) for _ in range(3)]
        await bench.waiting(4)
        await until("the autoscaler heard of it", lambda: bench.stats)
        async with foreign_grpc() as foreign:
            bench.world.put_pods("r-1", ready=[as_pod(foreign).ports])
            assert await small == "small"
            assert [await task for task in calls] == [large] * 3


async def test_each_stream_has_a_place_of_its_own(bench: Bench) -> None:
    async with foreign_grpc() as first, foreign_grpc() as second, channel(bench.activator.port) as client:
        await bench.put(ready=[as_pod(first), as_pod(second, "pod-2")], containerConcurrency=2)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call(client, "Wait", b"done")) for _ in range(10)]
            await bench.waiting(6)
            await until("both pods are full", lambda: (first.inside, second.inside) == (2, 2))
            first.release.set()
            second.release.set()
        assert [task.result() for task in calls] == ["done"] * 10
        await until("all places are free", lambda: in_flight(bench) == 0)


async def test_a_pods_own_error_arrives_with_its_trailers(bench: Bench) -> None:
    async with behind(bench) as (_, client):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.unary_unary(method("Fail"))(b"", timeout=DEADLINE_S, metadata=TO)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == "not today: 100 %, ä"
        assert dict(caught.value.trailing_metadata())["x-trailing"] == "2"
        assert (await call(client, "Missing")).startswith("UNIMPLEMENTED")


@pytest.mark.parametrize("limit", ["timeoutSeconds", "responseStartTimeoutSeconds"])
async def test_a_late_answer_is_a_deadline_exceeded_and_stops_the_pod(bench: Bench, limit: str) -> None:
    async with behind(bench, **{limit: 1}) as (foreign, client):
        assert await call(client, "Wait") == "DEADLINE_EXCEEDED activator request timeout"
        await until("the pod stops", lambda: foreign.inside == 0)
        assert in_flight(bench) == 0


async def test_a_wait_that_is_too_long_is_a_deadline_exceeded(bench: Bench) -> None:
    await bench.put(timeoutSeconds=1)
    async with channel(bench.activator.port) as client:
        assert await call(client, "Echo") == "DEADLINE_EXCEEDED activator request timeout"


@pytest.mark.parametrize("limit", ["timeoutSeconds", "idleTimeoutSeconds"])
async def test_a_stream_past_its_time_ends_with_the_same_status(bench: Bench, limit: str) -> None:
    async with behind(bench, **{limit: 1}) as (foreign, client):
        begun = client.unary_stream(method("Begin"))(b"", timeout=DEADLINE_S, metadata=TO)
        assert await begun.read() == b"begun"
        with pytest.raises(grpc.aio.AioRpcError, match="activator request timeout") as caught:
            await begun.read()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until("the pod stops", lambda: foreign.inside == 0)


@pytest.mark.parametrize("limits", [Limits(waiting_max=1)], ids=["one-may-wait"])
async def test_a_full_queue_is_unavailable(bench: Bench) -> None:
    await bench.put()
    async with channel(bench.activator.port) as client, asyncio.TaskGroup() as group:
        waiting = group.create_task(call(client, "Echo"))
        await bench.waiting(1)
        assert await call(client, "Echo") == "UNAVAILABLE pending request queue full"
        waiting.cancel()
        await bench.waiting(0)


async def test_an_unknown_revision_is_unimplemented(bench: Bench) -> None:
    async with channel(bench.activator.port) as client:
        assert (await call(client, "Echo")).startswith("UNIMPLEMENTED Error getting active endpoint")


async def test_a_client_that_leaves_frees_its_place_and_stops_the_pod(bench: Bench) -> None:
    async with behind(bench, containerConcurrency=1) as (foreign, client):
        leaving = asyncio.create_task(call(client, "Wait"))
        await until("it is inside", lambda: foreign.inside == 1)
        leaving.cancel()
        await until("the pod stops", lambda: foreign.inside == 0)
        assert (await call(client, "Wait", timeout=0.2)).startswith("DEADLINE_EXCEEDED")
        assert await call(client, "Echo", b"next") == "next"


async def test_a_pod_that_is_gone_is_not_asked_again_while_another_is_there(bench: Bench) -> None:
    async with foreign_grpc() as gone:
        pass
    async with foreign_grpc() as there, channel(bench.activator.port) as client:
        await bench.put(ready=[as_pod(gone), as_pod(there, "pod-2")])
        for _ in range(5):
            assert await call(client, "Echo", b"here") == "here"


async def test_a_pod_that_does_not_speak_http_2_is_unavailable(bench: Bench) -> None:
    async with raw_pod(b"HTTP/1.1 400 Bad Request\r\n\r\n") as pod, channel(bench.activator.port) as client:
        await bench.put(ready=[pod])
        assert await call(client, "Echo") == "UNAVAILABLE the server does not speak HTTP/2"


async def test_a_pod_that_dies_in_the_middle_breaks_the_answer_off(bench: Bench) -> None:
    async with behind(bench) as (foreign, client):
        begun = client.unary_stream(method("Begin"))(b"", timeout=DEADLINE_S, metadata=TO)
        assert await begun.read() == b"begun"
        await foreign.server.stop(0)
        with pytest.raises(grpc.aio.AioRpcError):
            await begun.read()
        await until("the place is free", lambda: in_flight(bench) == 0)


async def test_draining_lets_streams_end_and_takes_no_more(bench: Bench) -> None:
    async with behind(bench) as (foreign, client), asyncio.TaskGroup() as group:
        begun = client.unary_stream(method("Begin"))(b"", timeout=DEADLINE_S, metadata=TO)
        assert await begun.read() == b"begun"
        draining = group.create_task(bench.activator.server.drain())
        await until("it drains", lambda: bench.activator.server.draining)
        assert (await call(client, "Echo")).startswith("UNAVAILABLE")
        foreign.release.set()
        assert await begun.read() == b"ended"
        assert await begun.read() is grpc.aio.EOF
        await draining


async def test_many_clients_and_few_places_lose_nothing(bench: Bench) -> None:
    async with behind(bench, containerConcurrency=3) as (_, client):
        answers = await asyncio.gather(*(call(client, "Echo", b"%d" % number) for number in range(300)))
        assert answers == [str(number) for number in range(300)]
        await until("all places are free", lambda: in_flight(bench) == 0)
