"""The sidecar in front of a foreign server: Knative's recorded cases, streams, and what happens when either side breaks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladle.clock import SystemClock
from ladle.errors import UserError
from ladle.server.http.messages import Request
from runtimes.queueproxy.headers import forwarded_header, request_headers
from runtimes.queueproxy.readiness import ReadinessProbe, parse_probe
from runtimes.queueproxy.sidecar import SidecarSettings
from tests.ladle.server.wire import Answer, ask, wire
from tests.runtimes.foreign import Foreign, busy, foreign_server, idle, sidecar
from tests.waiting import eventually

GOLDEN = Path(__file__).parents[2] / "../shared/golden/knative/queue-proxy.yaml"


@pytest.fixture
def foreign() -> Iterator[ThreadingHTTPServer]:
    with foreign_server() as server:
        yield server


def golden() -> dict[str, Any]:
    if not GOLDEN.exists():
        pytest.skip("the reference recordings are not here")
    cases: dict[str, Any] = yaml.safe_load(GOLDEN.read_text())
    return cases


class TestRecordings:
    """Every case of the recording. Not compared: `date`, and the x-forwarded-for of a kubelet's probe of the container."""

    SINGLE = (
        *("plain", "not-found", "probe-wrong-name", "kube-probe", "probe-as-kubelet", "probe-as-activator"),
        *("probe-as-autoscaler", "probe-as-ingress", "kubelet-probe-header", "drain-while-up", "stream"),
        *("response-start-timeout-1-slow-2", "response-start-timeout-1-stream"),
    )

    @pytest.mark.parametrize("name", SINGLE)
    async def test_one_request(self, foreign: ThreadingHTTPServer, name: str) -> None:
        case = golden()[name]
        queue = {"response_start_timeout_s": 1.0} if name.startswith("response-start") else {}
        async with sidecar(foreign.server_port, **queue) as proxy:
            answer = await send(proxy.http_port, case["request"])
        assert_same_answer(answer, case["answer"])
        assert [without_host(seen) for seen in Foreign.saw] == case["service_saw"]

    async def test_a_container_that_refuses_its_probe_for_ten_seconds(self, foreign: ThreadingHTTPServer) -> None:
        case = golden()["probe-user-404"]
        async with sidecar(foreign.server_port, ReadinessProbe(path="/nope")) as proxy:
            answer = await send(proxy.http_port, case["request"])
        assert_same_answer(answer, case["answer"])
        assert 0 < len(Foreign.saw) <= case["service_saw_count"] * 1.1  # Fewer where the machine is busy.

    async def test_a_container_that_is_not_there(self, unused_tcp_port: int) -> None:
        case = golden()["user-port-closed"]
        async with sidecar(unused_tcp_port) as proxy:
            answer = await send(proxy.http_port, case["request"])
        expected = case["answer"]
        assert (answer.status, answer.text) == (502, expected["body"].replace("9001", str(unused_tcp_port)))
        assert answer.headers["x-content-type-options"] == expected["headers"]["x-content-type-options"]

    @pytest.mark.parametrize(
        ("name", "limit", "count"),
        [("concurrency-1-of-5", 1, 5), ("concurrency-2-of-30", 2, 30), ("concurrency-unlimited-30", 0, 30)],
    )
    async def test_overload(self, foreign: ThreadingHTTPServer, name: str, limit: int, count: int) -> None:
        case = golden()[name]
        async with sidecar(foreign.server_port, container_concurrency=limit) as proxy:
            refused = sum(number for answer, number in case["answers"].items() if answer.startswith("503"))
            async with asyncio.TaskGroup() as group:
                # As slow as it takes until all have arrived.
                asked = [group.create_task(ask(proxy.http_port, "GET", "/slow/60")) for _ in range(count)]

                async def arrived() -> bool:
                    inside, done = proxy.queue_proxy.stats.concurrency, sum(task.done() for task in asked)
                    return (inside, done) == (count - refused, refused)

                await eventually("all have arrived", arrived)
                Foreign.release.set()
            answers = Counter(f"{task.result().status} {task.result().text}" for task in asked)
        assert dict(answers) == case["answers"]

    async def test_the_statistics_port(self, foreign: ThreadingHTTPServer) -> None:
        case = golden()["autoscaling-metrics"]["answer"]
        async with sidecar(foreign.server_port) as proxy:
            await ask(proxy.http_port, "GET", "/hello")

            async def counted() -> Answer | None:
                answer = await ask(proxy.admin_port, "GET", "/metrics", None, accept="application/protobuf")
                return answer if answer.body[16:17] == b"\x11" else None  # The tag of a concurrency that is not 0.

            answer = await eventually("a second with a request in it", counted)
        assert answer.headers["content-type"] == case["headers"]["content-type"]
        assert answer.body.startswith(b"\n\x0eiris-00001-pod\x11")
        assert len(answer.body) == int(case["headers"]["content-length"])

    async def test_the_drain(self, foreign: ThreadingHTTPServer) -> None:
        case = golden()["drain-port"]["answer"]
        async with sidecar(foreign.server_port, drain_quiet_s=0.2) as proxy:
            assert_same_answer(await ask(proxy.admin_port, "GET", "/wait-for-drain"), case)
            answer = await send(proxy.http_port, golden()["probe-as-kubelet"]["request"])
            assert (answer.status, answer.text) == (503, "shutting down\n")

    async def test_metrics_for_users_are_the_containers_own(self, foreign: ThreadingHTTPServer) -> None:
        """The one case that differs: Knative's port 9091 is missing, and /metrics is the container's like every path."""
        async with sidecar(foreign.server_port) as proxy:
            await ask(proxy.http_port, "GET", "/metrics")
        assert [seen["path"] for seen in Foreign.saw] == ["/metrics"]

    def test_no_case_is_left_out(self) -> None:
        others = {"probe-user-404", "user-port-closed", "autoscaling-metrics", "drain-port", "user-metrics"}
        crowds = {"concurrency-1-of-5", "concurrency-2-of-30", "concurrency-unlimited-30"}
        assert set(golden()) == {*self.SINGLE, *others, *crowds}


async def send(port: int, request: dict[str, Any]) -> Answer:
    body = request["body"].encode() if request["body"] is not None else None
    headers = {name.replace("-", "_"): value for name, value in request["headers"].items()}
    return await ask(port, "GET" if body is None else "POST", request["path"], body, **headers)


def assert_same_answer(answer: Answer, expected: dict[str, Any]) -> None:
    headers = {name: value for name, value in expected["headers"].items() if name != "server"}
    assert (answer.status, answer.text) == (expected["status"], expected["body"])
    assert {name: answer.headers.get(name) for name in headers} == {n: v.lower() for n, v in headers.items()}


def without_host(seen: dict[str, Any]) -> dict[str, Any]:
    """What the recording keeps: no host, no lengths, no agent."""
    left_out = {"host", "content-length", "user-agent", "accept-encoding"}
    return {**seen, "headers": {name: value for name, value in seen["headers"].items() if name not in left_out}}


class TestBodies:
    @pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
    async def test_they_go_through_unchanged(self, foreign: ThreadingHTTPServer, size: int) -> None:
        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        async with sidecar(foreign.server_port) as proxy, wire(proxy.http_port) as connection:
            for _ in range(2):
                assert (await connection.request("POST", "/echo", body)).body == body

    async def test_a_chunked_upload_stays_chunked(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port) as proxy, wire(proxy.http_port) as connection:
            connection.ask("POST", "/echo", None, transfer_encoding="chunked")
            connection.send(b"3\r\nabc\r\n")
            await asyncio.sleep(0)
            connection.send(b"2\r\nde\r\n0\r\n\r\n")
            assert (await connection.answer()).body == b"abcde"
        assert Foreign.saw[0]["headers"]["transfer-encoding"] == "chunked"

    async def test_a_stream_arrives_as_it_is_made(self, foreign: ThreadingHTTPServer) -> None:
        clock = SystemClock()
        async with sidecar(foreign.server_port) as proxy, wire(proxy.http_port) as connection:
            connection.ask("GET", "/stream")
            await connection.head()
            moments = [clock.monotonic_s() async for _ in connection.chunks()]
        assert moments[-1] - moments[0] >= 0.3

    async def test_head_has_the_length_and_no_body(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port) as proxy, wire(proxy.http_port) as connection:
            for _ in range(2):
                answer = await connection.request("HEAD", "/hello")
                assert (answer.status, answer.headers["content-length"], answer.body) == (200, "5", b"")

    async def test_connections_are_used_again(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port) as proxy:
            for _ in range(5):
                assert (await ask(proxy.http_port, "GET", "/hello")).text == "hello"
            assert len(proxy._pool._idle) == 1


class TestBreaks:
    @pytest.mark.parametrize("path", ["/nonsense", "/silent"])
    async def test_a_container_that_does_not_answer_is_a_502(self, foreign: ThreadingHTTPServer, path: str) -> None:
        async with sidecar(foreign.server_port, container_concurrency=1) as proxy:
            assert (await ask(proxy.http_port, "POST", path, b"x")).status == 502
            assert proxy.queue_proxy.breaker.running == 0

    async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port) as proxy, wire(proxy.http_port) as connection:
            connection.ask("GET", "/broken")
            assert (await connection.head())[1]["content-length"] == "10"
            assert await connection.closed() == b"half"
            await eventually("nobody is inside", lambda: idle(proxy))

    async def test_a_kept_connection_that_the_container_closed_is_replaced(self, foreign: ThreadingHTTPServer) -> None:
        async with sidecar(foreign.server_port) as proxy:
            await ask(proxy.http_port, "GET", "/hello")
            stale = proxy._pool._idle[0]
            stale._answered = False
            proxy._pool._idle.append(Stale(stale))  # type: ignore[arg-type]
            assert (await ask(proxy.http_port, "GET", "/hello")).text == "hello"

    async def test_a_client_that_leaves_frees_its_slot_and_closes_the_containers_side(
        self, foreign: ThreadingHTTPServer
    ) -> None:
        async with sidecar(foreign.server_port, container_concurrency=1) as proxy, wire(proxy.http_port) as connection:
            connection.ask("GET", "/slow/20")
            await eventually("it is inside", lambda: saw(1))
            connection.abort()
            await eventually("nobody is inside", lambda: idle(proxy))
            assert (await ask(proxy.http_port, "GET", "/hello")).text == "hello"

    async def test_an_upload_that_breaks_off_reaches_the_container_as_broken(
        self, foreign: ThreadingHTTPServer
    ) -> None:
        async with sidecar(foreign.server_port, container_concurrency=1) as proxy, wire(proxy.http_port) as connection:
            connection.ask("POST", "/echo", b"half", content_length="1000")
            await eventually("it counts", lambda: busy(proxy))
            connection.abort()
            await eventually("nobody is inside", lambda: idle(proxy))
        assert all(seen["path"] != "/echo" or len(seen["body"]) < 1000 for seen in Foreign.saw)


class Stale:
    """A connection that looks open and is closed by the container in the moment it is used."""

    open = True

    def __init__(self, real: Any) -> None:
        self._real = real

    async def request(self, *_: object, **__: object) -> None:
        from ladle.server.http.client import NeverAnsweredError

        raise NeverAnsweredError("EOF")

    def close(self) -> None:
        self._real.close()


async def saw(count: int) -> bool:
    return len(Foreign.saw) == count


class TestHeaders:
    def request(self, *headers: tuple[str, str]) -> Request:
        raw = [(name.encode(), value.encode()) for name, value in (("host", "a.example"), *headers)]
        request = Request("GET", b"/", raw)
        request.peer = "10.0.0.9"
        return request

    def sent(self, *headers: tuple[str, str]) -> dict[bytes, bytes]:
        return dict(request_headers(self.request(*headers), chunked=False))

    def test_what_belongs_to_one_connection_or_to_knative_is_dropped(self) -> None:
        names = (
            "connection",
            "keep-alive",
            "te",
            "upgrade",
            "knative-serving-revision",
            "knative-serving-namespace",
            "x-hop",
        )
        sent = self.sent(*((name, "x-hop") for name in names), ("x-kept", "1"))
        assert set(sent) == {b"host", b"x-kept", b"x-forwarded-for"}

    def test_the_host_that_the_activator_put_aside_comes_back(self) -> None:
        assert self.sent(("k-original-host", "real.example"))[b"host"] == b"real.example"

    def test_the_client_is_added_to_those_before_it(self) -> None:
        assert self.sent(("x-forwarded-for", "1.2.3.4"))[b"x-forwarded-for"] == b"1.2.3.4, 10.0.0.9"

    @pytest.mark.parametrize(
        ("headers", "forwarded"),
        [
            ([], b""),
            ([("x-forwarded-for", "1.2.3.4")], b"for=1.2.3.4"),
            ([("x-forwarded-proto", "https")], b"proto=https"),
            (
                [("x-forwarded-for", "1.2.3.4, 2001:db8::1"), ("x-forwarded-host", "a"), ("x-forwarded-proto", "http")],
                b'for=1.2.3.4;host=a;proto=http, for="[2001:db8::1]"',
            ),
            ([("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=x")], b""),
        ],
    )
    def test_forwarded_is_made_of_its_older_relatives(self, headers: list[tuple[str, str]], forwarded: bytes) -> None:
        assert forwarded_header(self.request(*headers)) == forwarded


class TestProbes:
    @pytest.mark.parametrize(
        ("text", "probe"),
        [
            ("", ReadinessProbe()),
            ('{"tcpSocket":{"port":8080,"host":"127.0.0.1"},"successThreshold":1}', ReadinessProbe()),
            ('{"grpc":{"port":8080}}', ReadinessProbe(service="")),
            ('{"grpc":{"port":8080,"service":"m"},"periodSeconds":5}', ReadinessProbe(service="m", period_s=5)),
            (
                '{"httpGet":{"path":"ready","httpHeaders":[{"name":"a","value":"b"}]},"periodSeconds":5,"timeoutSeconds":2}',
                ReadinessProbe(path="/ready", headers=(("a", "b"),), period_s=5, timeout_s=2),
            ),
        ],
    )
    def test_the_users_probe_is_read(self, text: str, probe: ReadinessProbe) -> None:
        assert parse_probe(text) == probe

    @pytest.mark.parametrize("text", ["{nope", "[]"])
    def test_what_is_no_probe_is_refused(self, text: str) -> None:
        with pytest.raises(UserError, match="SERVING_READINESS_PROBE"):
            parse_probe(text)

    async def test_an_http_probe_with_a_period_is_tried_once(self, foreign: ThreadingHTTPServer) -> None:
        probe = golden()["probe-as-kubelet"]["request"]
        async with sidecar(foreign.server_port, ReadinessProbe(path="/nope", period_s=1)) as proxy:
            assert (await send(proxy.http_port, probe)).status == 503
        assert len(Foreign.saw) == 1
        async with sidecar(foreign.server_port, ReadinessProbe(path="/hello", period_s=1)) as proxy:
            assert (await send(proxy.http_port, probe)).status == 200

    async def test_an_aggressive_probe_waits_for_the_container(
        self, foreign: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("runtimes.queueproxy.readiness._AGGRESSIVE_ATTEMPT_S", 20.0)  # On a busy machine.
        probe = golden()["probe-as-kubelet"]["request"]
        async with sidecar(foreign.server_port, ReadinessProbe(path="/hello", success_threshold=3)) as proxy:
            assert (await send(proxy.http_port, probe)).status == 200
        assert len(Foreign.saw) == 3


def test_settings_come_from_knatives_environment() -> None:
    env = {
        "QUEUE_SERVING_PORT": "8012",
        "LADLE_HTTP_PORT": "20001",
        "LADLE_ADMIN_PORT": "20002",
        "USER_PORT": "20003",
        "LADLE_HOST": "127.0.0.1",
        "CONTAINER_CONCURRENCY": "4",
        "REVISION_TIMEOUT_SECONDS": "300",
        "SERVING_POD": "pod-1",
        "SERVING_READINESS_PROBE": json.dumps({"httpGet": {"path": "/"}}),
    }
    settings = SidecarSettings.parse([], env)
    assert (settings.http_port, settings.admin_port, settings.user_port) == (20001, 20002, 20003)
    assert settings.queue.first_byte_limit_s == 300
    assert settings.probe == ReadinessProbe(path="/")
    del env["LADLE_HTTP_PORT"]
    assert SidecarSettings.parse([], env).http_port == 8012
