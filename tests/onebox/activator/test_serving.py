"""Requests through the activator to pods that are there, over real sockets."""

from __future__ import annotations

import asyncio
import io

import aiohttp
import pytest
from aiohttp import web

from tests.onebox.activator.conftest import Bench
from tests.onebox.activator.raw import exchange, raw_pod
from tests.onebox.fake_pod import FakePod, fake_pod
from tests.waiting import eventually


async def test_a_request_reaches_a_ready_pod_and_its_answer_comes_back(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        assert await bench.ask(body=b"x" * 100_000) == (200, "pod-1: 100000 bytes")
        assert await bench.ask() == (200, "pod-1: 0 bytes")


async def test_headers_are_what_knatives_activator_sends(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        headers = bench.to("r-1") | {
            "Host": "iris.default.example.com",
            "X-Forwarded-For": "10.1.2.3",
            "X-Custom": "kept",
            "K-Proxy-Request": "forged",
            "Connection": "x-private",
            "X-Private": "for this hop",
        }
        async with bench.session.get(bench.url + "/v1/models/m?a=b%20c", headers=headers) as answer:
            assert answer.status == 200
        request = pod.requests[0]
        assert request.raw_path == "/v1/models/m?a=b%20c"
        assert request.headers["K-Original-Host"] == "iris.default.example.com"
        assert request.headers["Host"] == f"127.0.0.1:{pod.ports.data}"
        assert request.headers.getall("K-Proxy-Request") == ["activator"]
        assert request.headers["X-Forwarded-For"] == "10.1.2.3"
        assert request.headers["X-Custom"] == "kept"
        gone = {"Knative-Serving-Revision", "Knative-Serving-Namespace", "X-Private"}
        assert not gone & set(request.headers)


async def test_an_original_host_that_is_there_is_kept(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        headers = bench.to("r-1") | {"K-Original-Host": "first.example.com"}
        async with bench.session.get(bench.url, headers=headers) as answer:
            assert answer.status == 200
        assert pod.requests[0].headers.getall("K-Original-Host") == ["first.example.com"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("r-1.default.svc.cluster.local", 200),
        ("r-1.default.svc.cluster.local:8012", 200),
        ("r-1.default.example.com", 404),
        ("r-2.default.svc.cluster.local", 404),
        ("localhost", 404),
    ],
)
async def test_without_headers_the_host_names_the_revision(bench: Bench, host: str, status: int) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        async with bench.session.get(bench.url, headers={"Host": host}) as answer:
            assert answer.status == status


async def test_an_unknown_revision_is_named(bench: Bench) -> None:
    assert await bench.ask("nobody") == (
        404,
        'Error getting active endpoint: revision.serving.knative.dev "nobody" not found\n',
    )


async def test_a_body_of_unknown_length_streams_both_ways(bench: Bench) -> None:
    first_seen = asyncio.Event()

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk)
        return response

    async def body():  # type: ignore[no-untyped-def]  # An async generator for aiohttp.
        yield b"first"
        await first_seen.wait()  # Sent only after its echo came back: nothing may collect bodies on the way.
        yield b"second"

    async with fake_pod(handler=echo) as pod:
        await bench.put(ready=[pod])
        async with bench.session.post(bench.url, data=body(), headers=bench.to("r-1")) as answer:
            assert await answer.content.readexactly(5) == b"first"
            first_seen.set()
            assert await answer.read() == b"second"


async def test_a_large_answer_arrives_whole_at_a_slow_client(bench: Bench) -> None:
    size = 20 * 2**20

    async def large(_: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(size))

    async with fake_pod(handler=large) as pod:
        await bench.put(ready=[pod])
        async with bench.session.get(bench.url, headers=bench.to("r-1")) as answer:
            assert answer.headers["Content-Length"] == str(size)
            received = 0
            async for chunk in answer.content.iter_chunked(64 * 1024):
                received += len(chunk)
                await asyncio.sleep(0)
            assert received == size


async def test_a_client_that_does_not_read_pauses_its_pod(bench: Bench) -> None:
    pieces, size, written = 50, 2**20, 0

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal written
        if request.path != "/large":
            return web.Response()
        response = web.StreamResponse(headers={"Content-Length": str(pieces * size)})
        await response.prepare(request)
        for _ in range(pieces):
            await response.write(bytes(size))
            written += 1
        return response

    async with fake_pod(handler=stream) as pod:
        await bench.put(ready=[pod])
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.activator.port, limit=size)
        writer.write(b"GET /large HTTP/1.1\r\nHost: r-1.default.svc.cluster.local\r\n\r\n")
        await eventually("some pieces are on their way", lambda: _truth(written > 0))
        for _ in range(100):
            assert (await bench.ask())[0] == 200
        assert written < pieces // 2  # The sockets' buffers, and no more.
        await reader.readuntil(b"\r\n\r\n")
        received = len(await reader.readexactly(pieces * size))
        assert received == pieces * size
        writer.close()


async def test_a_large_request_arrives_whole_at_a_slow_pod(bench: Bench) -> None:
    async with fake_pod() as pod:
        pod.gate.clear()
        await bench.put(ready=[pod])
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(bench.ask(body=io.BytesIO(bytes(20 * 2**20))))
            await eventually("the pod has the request", lambda: _truth(pod.running == 1))
            pod.gate.set()
        assert asking.result() == (200, f"pod-1: {20 * 2**20} bytes")


async def _truth(value: bool) -> bool:
    return value


async def test_statuses_without_bodies_and_head_leave_the_connection_in_order(bench: Bench) -> None:
    async def answer_by_path(request: web.Request) -> web.StreamResponse:
        status = int(request.path.strip("/") or 200)
        return web.Response(status=status) if status != 200 else web.Response(text="body")

    async with fake_pod(handler=answer_by_path) as pod:
        await bench.put(ready=[pod])
        for _ in range(2):
            for method, path, status, body in (
                ("GET", "/204", 204, b""),
                ("GET", "/304", 304, b""),
                ("HEAD", "/200", 200, b""),
                ("GET", "/200", 200, b"body"),
                ("GET", "/500", 500, b""),
            ):
                async with bench.session.request(method, bench.url + path, headers=bench.to("r-1")) as answer:
                    assert (answer.status, await answer.read()) == (status, body)
        assert len({request.transport for request in pod.requests}) == 1


async def test_connections_to_pods_are_kept(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        for _ in range(5):
            await bench.ask()
        assert len({id(request.transport) for request in pod.requests}) == 1


async def test_a_client_of_http_1_0_gets_its_answer_and_the_end(bench: Bench) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"unknown length")
        return response

    async with fake_pod(handler=stream) as pod:
        await bench.put(ready=[pod])
        head = b"GET / HTTP/1.0\r\nHost: r-1.default.svc.cluster.local\r\n\r\n"
        answer = await exchange(bench.activator.port, head)
        assert answer.endswith(b"\r\n\r\nunknown length")
        assert b"chunked" not in answer


async def test_pipelined_requests_are_answered_in_order(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        request = b"POST / HTTP/1.1\r\nHost: r-1.default.svc.cluster.local\r\nContent-Length: %d\r\n%b\r\n%b"
        sent = request % (3, b"", b"abc") + request % (0, b"", b"") + request % (5, b"Connection: close\r\n", b"vwxyz")
        answer = await exchange(bench.activator.port, sent)
        assert [line for line in answer.split(b"\r\n") if line.startswith(b"pod-1")] or answer.count(b"pod-1") == 3
        assert [answer.index(text) for text in (b"3 bytes", b"0 bytes", b"5 bytes")] == sorted(
            answer.index(text) for text in (b"3 bytes", b"0 bytes", b"5 bytes")
        )


async def test_a_client_that_asks_first_is_told_to_go_on(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.activator.port)
        writer.write(
            b"POST / HTTP/1.1\r\nHost: r-1.default.svc.cluster.local\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert b"200 OK" in await reader.readuntil(b"3 bytes")
        assert "Expect" not in pod.requests[0].headers
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_what_proxies_disagree_about_is_refused(bench: Bench, request_: bytes, status: bytes) -> None:
    answer = await exchange(bench.activator.port, request_)
    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_a_refused_request_leaves_the_one_before_it_alone(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        good = b"GET / HTTP/1.1\r\nHost: r-1.default.svc.cluster.local\r\n\r\n"
        answer = await exchange(bench.activator.port, good + b"nonsense\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_a_websocket_is_carried_both_ways(bench: Bench) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"echo {message.data}")
        return socket

    async with fake_pod(handler=echo) as pod:
        await bench.put(ready=[pod], responseStartTimeoutSeconds=1)
        async with bench.session.ws_connect(bench.url, headers=bench.to("r-1")) as socket:
            for text in ("one", "two"):
                await socket.send_str(text)
                assert await socket.receive_str(timeout=30) == f"echo {text}"
        await eventually("the place is free", lambda: _truth(bench.target().throttle.pods[0].in_flight == 0))


async def test_a_protocol_that_no_pod_agrees_to_is_plain_http(bench: Bench) -> None:
    async with fake_pod() as pod:
        await bench.put(ready=[pod])
        head = b"GET / HTTP/1.1\r\nHost: r-1.default.svc.cluster.local\r\n"
        upgrade = head + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        answer = await exchange(bench.activator.port, upgrade + head + b"Connection: close\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert "Upgrade" not in pod.requests[0].headers


async def test_a_pod_that_breaks_off_before_its_answer_is_a_502(bench: Bench) -> None:
    async with raw_pod(b"") as pod:
        await bench.put(ready=[pod])
        status, text = await bench.ask()
        assert (status, text) == (502, "EOF\n")


async def test_a_pod_that_talks_nonsense_is_a_502(bench: Bench) -> None:
    async with raw_pod(b"SSH-2.0-OpenSSH\r\n") as pod:
        await bench.put(ready=[pod])
        status, text = await bench.ask()
        assert status == 502
        assert text.startswith("malformed HTTP response")


async def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(bench: Bench) -> None:
    async with raw_pod(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") as pod:
        await bench.put(ready=[pod])
        with pytest.raises(aiohttp.ClientPayloadError):
            await bench.ask()


async def test_an_answer_that_ends_with_its_connection_is_whole(bench: Bench) -> None:
    async with raw_pod(b"HTTP/1.1 200 OK\r\n\r\nuntil the end") as pod:
        await bench.put(ready=[pod])
        assert await bench.ask() == (200, "until the end")


async def test_interim_answers_stay_here(bench: Bench) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with raw_pod(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as pod:
        await bench.put(ready=[pod])
        assert await bench.ask() == (200, "ok")


async def test_a_pod_may_answer_before_it_has_read_the_body(bench: Bench) -> None:
    async with raw_pod(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig") as pod:
        await bench.put(ready=[pod])
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.activator.port)
        writer.write(
            b"POST / HTTP/1.1\r\nHost: r-1.default.svc.cluster.local\r\nContent-Length: 1000000\r\n\r\n" + bytes(100)
        )
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer
        writer.close()
    assert isinstance(pod, FakePod)
