"""Requests that wait: for a first pod, for a free place, for too long, or no longer."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from onebox.knative.activator.limits import Limits
from onebox.knative.stats_link import ActivatorStat
from tests.onebox.activator.conftest import Bench, listen_to_stats
from tests.onebox.fake_pod import fake_pod
from tests.waiting import eventually

HEAD = b"POST / HTTP/1.1\r\nHost: r-1.default.svc.cluster.local\r\n"


async def until(what: str, probe: object) -> None:
    async def check() -> bool:
        return bool(probe())  # type: ignore[operator]  # A function without arguments.

    await eventually(what, check)


async def test_a_request_for_no_pods_wakes_the_autoscaler_and_is_held(bench: Bench) -> None:
    await bench.put()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(bench.ask(body=b"patience"))
        await until("the poke", lambda: bench.stats)
        poke = ActivatorStat(namespace="default", name="r-1", average_concurrent_requests=1, request_count=1)
        assert bench.stats[0] == poke
        assert bench.target().throttle.waiting == 1
        async with fake_pod() as pod:
            bench.world.put_pods("r-1", ready=[pod.ports])
            assert await asking == (200, "pod-1: 8 bytes")


async def test_a_pod_that_says_it_is_ready_is_used_before_kubernetes_knows(bench: Bench) -> None:
    async with fake_pod(ready=False) as pod:
        await bench.put(not_ready=[pod])
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(bench.ask())
            await until("several probes", lambda: pod.probes >= 3)
            assert not pod.requests
            pod.ready = True
            assert (await asking)[0] == 200


async def test_pods_are_left_alone_while_nobody_waits(bench: Bench) -> None:
    async with fake_pod(ready=False) as pod, fake_pod("pod-2") as other:
        await bench.put(ready=[other], not_ready=[pod])
        await bench.ask()
        assert pod.probes == 0


@pytest.mark.parametrize(
    "container", [{"startupProbe": {"httpGet": {}}}, {"readinessProbe": {"exec": {"command": ["true"]}}}]
)
async def test_a_probe_that_queue_proxy_cannot_answer_for_is_kubernetes_to_judge(
    bench: Bench, container: dict[str, object]
) -> None:
    async with fake_pod() as pod:
        await bench.put(not_ready=[pod], containers=[container])
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(bench.ask())
            await bench.waiting(1)
            assert pod.probes == 0
            bench.world.put_pods("r-1", ready=[pod.ports])
            assert (await asking)[0] == 200


async def test_a_pod_that_refuses_connections_is_tried_again_when_it_is_back(bench: Bench) -> None:
    async with fake_pod("gone") as gone:
        pass
    async with fake_pod(ready=False) as pod:
        await bench.put(ready=[gone])
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(bench.ask(body=b"once"))
            await until("the pod is known to be gone", lambda: not bench.target().throttle.pods[0].usable)
            bench.world.put_pods("r-1", not_ready=[pod.ports])
            await until("a probe", lambda: pod.probes)
            pod.ready = True
            assert await asking == (200, "pod-1: 4 bytes")
        assert len(pod.requests) == 1


async def test_another_pod_takes_what_a_refused_connection_left(bench: Bench) -> None:
    async with fake_pod("gone") as gone:
        pass
    async with fake_pod() as pod:
        await bench.put(ready=[gone, pod])
        answers = await asyncio.gather(*(bench.ask() for _ in range(20)))
        assert {status for status, _ in answers} == {200}


async def test_a_request_waits_for_its_limit_and_no_longer(bench: Bench) -> None:
    await bench.put(timeoutSeconds=1)
    assert await bench.ask() == (504, "activator request timeout")
    assert bench.target().throttle.waiting == 0


async def test_time_in_the_queue_is_not_the_models_time(bench: Bench) -> None:
    async with fake_pod() as pod:
        pod.gate.clear()
        await bench.put(timeoutSeconds=2)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(bench.ask())
            started_s = asyncio.get_running_loop().time()
            await bench.waiting(1)
            await until("half of the limit has passed", lambda: asyncio.get_running_loop().time() > started_s + 1.0)
            bench.world.put_pods("r-1", ready=[pod.ports])
            await until("more than the limit has passed", lambda: asyncio.get_running_loop().time() > started_s + 2.3)
            pod.gate.set()
            assert (await asking)[0] == 200


async def test_a_slow_pod_is_a_504_and_its_connection_is_closed(bench: Bench) -> None:
    async with fake_pod() as pod:
        pod.gate.clear()
        await bench.put(ready=[pod], timeoutSeconds=1)
        assert await bench.ask() == (504, "activator request timeout")
        await until("the pod's handler was cancelled", lambda: pod.running == 0)
        assert bench.target().throttle.pods[0].in_flight == 0


async def test_a_late_start_of_the_answer_is_a_504(bench: Bench) -> None:
    async with fake_pod() as pod:
        pod.gate.clear()
        await bench.put(ready=[pod], responseStartTimeoutSeconds=1)
        assert await bench.ask() == (504, "activator request timeout")


async def stream_one_piece(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"piece ")
    await asyncio.Event().wait()
    return response


@pytest.mark.parametrize("limit", [{"timeoutSeconds": 1}, {"idleTimeoutSeconds": 1, "responseStartTimeoutSeconds": 1}])
async def test_an_answer_that_stalls_ends_with_the_text(bench: Bench, limit: dict[str, int]) -> None:
    async with fake_pod(handler=stream_one_piece) as pod:
        await bench.put(ready=[pod], **limit)
        assert await bench.ask() == (200, "piece activator request timeout")


async def test_an_answer_with_a_promised_length_that_stalls_breaks_off(bench: Bench) -> None:
    async def promise(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        await asyncio.Event().wait()
        return response

    async with fake_pod(handler=promise) as pod:
        await bench.put(ready=[pod], timeoutSeconds=1)
        with pytest.raises(aiohttp.ClientPayloadError):
            await bench.ask()


async def test_no_pod_gets_more_than_its_places_and_all_are_answered(bench: Bench) -> None:
    async with fake_pod() as first, fake_pod("pod-2") as second:
        await bench.put(ready=[first, second], containerConcurrency=2)
        answers = await asyncio.gather(*(bench.ask() for _ in range(40)))
        assert {status for status, _ in answers} == {200}
        assert max(first.running_max, second.running_max) <= 2
        assert len(first.requests) + len(second.requests) == 40


async def test_unlimited_pods_share_the_load(bench: Bench) -> None:
    async with fake_pod() as first, fake_pod("pod-2") as second:
        first.gate.clear()
        second.gate.clear()
        await bench.put(ready=[first, second])
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(bench.ask())
            await until("all requests are in pods", lambda: first.running + second.running == 20)
            assert {first.running, second.running} == {10}
            first.gate.set()
            second.gate.set()


async def test_one_of_many_may_leave_and_the_others_are_answered(bench: Bench) -> None:
    async with fake_pod() as pod:
        pod.gate.clear()
        await bench.put(ready=[pod], containerConcurrency=1)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(bench.ask(body=b"%d" % number)) for number in range(4)]
            await until("one runs", lambda: pod.running == 1)
            await bench.waiting(3)
            asking[2].cancel()
            await bench.waiting(2)
            pod.gate.set()
        assert [task.result()[0] for task in asking if not task.cancelled()] == [200] * 3
        assert bench.target().throttle.pods[0].in_flight == 0


async def test_a_client_that_leaves_frees_its_place_in_the_pod(bench: Bench) -> None:
    async with fake_pod() as pod:
        pod.gate.clear()
        await bench.put(ready=[pod], containerConcurrency=1)
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(bench.ask())
            await until("the first has the place", lambda: len(pod.requests) == 1)
            staying = group.create_task(bench.ask())
            await bench.waiting(1)
            leaving.cancel()
            await until("the next one has the place", lambda: len(pod.requests) == 2)
            pod.gate.set()
            assert (await staying)[0] == 200


async def test_all_may_leave_at_once_with_a_pod_arriving(bench: Bench) -> None:
    await bench.put(containerConcurrency=1)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask()) for _ in range(50)]
        await bench.waiting(50)
        async with fake_pod() as pod:
            bench.world.put_pods("r-1", ready=[pod.ports])
            await until("the first runs", lambda: pod.requests)
            for task in asking:
                task.cancel()
            await bench.waiting(0)
            await until("the place is free", lambda: bench.target().throttle.pods[0].in_flight == 0)
            assert (await bench.ask())[0] == 200


@pytest.mark.parametrize("limits", [Limits(waiting_max=2)], ids=["two"])
async def test_only_so_many_requests_may_wait(bench: Bench) -> None:
    await bench.put()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask()) for _ in range(2)]
        await bench.waiting(2)
        async with bench.session.post(bench.url, headers=bench.to("r-1")) as answer:
            assert (answer.status, await answer.text()) == (503, "pending request queue full\n")
            assert answer.headers["Retry-After"] == "1"
        async with fake_pod() as pod:
            bench.world.put_pods("r-1", ready=[pod.ports])
            assert {(await task)[0] for task in asking} == {200}


@pytest.mark.parametrize("limits", [Limits(held_bytes_max=100_000)], ids=["100-kB"])
async def test_only_so_many_bytes_may_wait(bench: Bench) -> None:
    await bench.put()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(bench.ask(body=bytes(60_000)))
        await bench.waiting(1)
        assert await bench.ask(body=bytes(60_000)) == (503, "pending request queue full\n")
        small = group.create_task(bench.ask(body=bytes(1000)))
        await bench.waiting(2)
        async with fake_pod() as pod:
            bench.world.put_pods("r-1", ready=[pod.ports])
            assert ((await asking)[0], (await small)[0]) == (200, 200)


async def test_a_large_body_waits_in_the_clients_socket(bench: Bench) -> None:
    size = 50 * 2**20
    await bench.put()
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.activator.port)
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % size)
    writer.write(bytes(size))
    await bench.waiting(1)
    assert writer.transport.get_write_buffer_size() > size // 2
    async with fake_pod() as pod:
        bench.world.put_pods("r-1", ready=[pod.ports])
        assert b"200 OK" in await reader.readuntil(f"{size} bytes".encode())
    writer.close()


async def test_revisions_do_not_wait_for_each_other(bench: Bench) -> None:
    await bench.put("r-1")
    async with fake_pod() as pod, asyncio.TaskGroup() as group:
        waiting = group.create_task(bench.ask("r-1"))
        await bench.waiting(1)
        await bench.put("r-2", ready=[pod])
        assert (await bench.ask("r-2"))[0] == 200
        waiting.cancel()


async def test_a_new_autoscaler_hears_of_those_who_wait(bench: Bench) -> None:
    await bench.put()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask()) for _ in range(3)]
        await bench.waiting(3)
        again: list[ActivatorStat] = []
        server = await listen_to_stats(bench.world, again)
        for connection in bench.connections:
            connection.close()
        await until("the repeated poke", lambda: again)
        assert (again[0].name, again[0].average_concurrent_requests) == ("r-1", 3)
        for task in asking:
            task.cancel()
        server.close()


async def test_probes_of_the_activator_itself_are_answered(bench: Bench) -> None:
    async def probe(**headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with bench.session.get(bench.url + "/healthz", headers=named) as answer:
            return answer.status, answer.headers.get("K-Network-Hash") or await answer.text()

    await until("the link is up", lambda: bench.stats is not None and bench.connections)
    assert await probe(User_Agent="kube-probe/1.32") == (200, "")
    assert await probe(K_Network_Probe="activator") == (200, "activator")
    assert await probe(K_Network_Probe="probe", K_Network_Hash="abc") == (200, "abc")
    assert (await probe(K_Network_Probe="probe"))[0] == 400
    assert await probe(K_Network_Probe="queue") == (400, 'unexpected probe header value: "queue"\n')


async def test_draining_answers_those_who_are_here_and_takes_no_more(bench: Bench) -> None:
    async with fake_pod() as pod:
        pod.gate.clear()
        await bench.put(ready=[pod])
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(bench.ask())
            await until("the request runs", lambda: pod.running)
            draining = group.create_task(bench.activator.server.drain())
            await until("the activator drains", lambda: bench.activator.server.draining)
            with pytest.raises(aiohttp.ClientConnectorError):
                await bench.ask()
            pod.gate.set()
            assert (await asking)[0] == 200
            await draining


async def test_many_clients_and_few_places_lose_nothing(bench: Bench) -> None:
    """A quarter of the clients leave at some time; whoever stays is answered, and no place is lost."""
    async with fake_pod("a") as first, fake_pod("b") as second:
        await bench.put(ready=[first, second], containerConcurrency=3)

        async def ask(number: int) -> int | None:
            if number % 4:
                return (await bench.ask(body=b"x" * number))[0]
            try:
                async with asyncio.timeout(0.001 * (number % 7)):
                    return (await bench.ask())[0]
            except TimeoutError:
                return None

        answers = await asyncio.gather(*(ask(number) for number in range(200)))
        assert {answer for number, answer in enumerate(answers) if number % 4} == {200}
        await until("all places are free", lambda: not any(pod.in_flight for pod in bench.target().throttle.pods))
        assert max(first.running_max, second.running_max) <= 3
        assert bench.target().throttle.waiting == 0


async def test_a_half_sent_head_is_not_waited_for_for_ever(bench: Bench) -> None:
    connection = await asyncio.open_connection("127.0.0.1", bench.activator.port)
    connection[1].write(HEAD)
    await until("the head has begun", lambda: bench.activator.server.connections)
    for open_ in bench.activator.server.connections:
        await until("in the head", lambda open_=open_: not open_.idle)
        open_.sweep(open_.since_s + bench.activator.server.limits.header_s + 1)
    assert (await connection[0].read()).startswith(b"HTTP/1.1 408")
    connection[1].close()


async def test_nothing_is_read_twice_when_a_kept_connection_has_died(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        await bench.ask()
        for request in pod.requests:
            assert request.transport is not None
            request.transport.abort()
        await until("it is noticed", lambda: bench.activator.pool.take(bench.target().throttle.pods[0].address) is None)
        assert (await bench.ask(body=b"again"))[0] == 200
