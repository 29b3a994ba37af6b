"""REST over HTTP/2 on the ordinary port: curl as it comes, and what a client of the h2 library does to the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import numpy as np
import pytest

from ladle.clock import SystemClock
from ladle.protocol.grpc.schema import INFERENCE_SERVICE
from ladle.server.http.application import Dispatcher
from ladle.server.http.limits import HttpLimits
from ladle.server.http.messages import Request, Response
from ladle.server.http2.first_bytes import FirstBytes
from ladle.server.http2.server import Http2Connection, Http2Server
from tests.ladle.server.models import GateModel, SumModel
from tests.ladle.server.serving import Served, served, tensor
from tests.waiting import eventually

DEADLINE_S = 20.0


@dataclass
class Heard:
    """What came on one stream."""

    informational: list[bytes] = field(default_factory=list)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers[b":status"])


class Client:
    """One connection, spoken with prior knowledge; reads until what the test waits for is there."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.streams: dict[int, Heard] = {}
        self._reader, self._writer = reader, writer
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    def begin(self, method: str, path: str, headers: Mapping[str, str] | None = None, *, ended: bool = False) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "m.test"), (":path", path)]
        self.streams[stream_id] = Heard()
        self.h2.send_headers(stream_id, [*pseudo, *(headers or {}).items()], end_stream=ended)
        self.flush()
        return stream_id

    async def send(self, stream_id: int, data: bytes, *, ended: bool = True) -> None:
        while data:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            if not room:
                await self._read()
                continue
            self.h2.send_data(stream_id, data[:room])
            data = data[room:]
            self.flush()
        if ended:
            self.h2.end_stream(stream_id)
            self.flush()

    async def ask(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Heard:
        stream_id = self.begin("POST", path, headers)
        await self.send(stream_id, body)
        return await self.answer(stream_id)

    async def answer(self, stream_id: int) -> Heard:
        heard = self.streams[stream_id]
        await self.until(lambda: heard.ended or heard.reset is not None)
        return heard

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self._read()

    async def _read(self) -> None:
        data = await self._reader.read(65536)
        if not data and not self._reader.at_eof():
            raise ConnectionResetError
        for event in self.h2.receive_data(data):
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.InformationalResponseReceived(stream_id=stream_id, headers=headers):
                self.streams[stream_id].informational.append(dict(headers)[b":status"])
            case h2.events.ResponseReceived(stream_id=stream_id, headers=headers):
                self.streams[stream_id].headers = dict(headers)
            case h2.events.DataReceived(stream_id=stream_id, data=data, flow_controlled_length=length):
                self.streams[stream_id].body += data
                self.h2.acknowledge_received_data(length, stream_id)
            case h2.events.StreamEnded(stream_id=stream_id):
                self.streams[stream_id].ended = True
            case h2.events.StreamReset(stream_id=stream_id, error_code=code):
                self.streams[stream_id].reset = int(code)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    made = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield made
    finally:
        await made.close()


V1 = json.dumps({"instances": [[1, 2, 3, 4]]}).encode()


class TestAnswers:
    async def test_v1_and_v2_answer_as_over_http_1(self) -> None:
        v2 = json.dumps({"id": "7", "inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}).encode()
        async with served(SumModel("m")) as app, client(app.port) as http2:
            for path, body in (
                ("/v1/models/m:predict", V1),
                ("/v2/models/m/infer", v2),
                ("/v1/models/none:predict", V1),
            ):
                over_1, over_2 = await app.post(path, body), await http2.ask(path, body)
                assert (over_2.status, over_2.body) == (over_1.status, over_1.body)
            live = await http2.answer(http2.begin("GET", "/v2/health/live", ended=True))
            assert live.status == 200

    async def test_binary_tensors_larger_than_every_window(self) -> None:
        rows = np.arange(3_000_000, dtype=np.float32).reshape(2, -1)
        head = json.dumps({"inputs": [tensor("x", "FP32", list(rows.shape), binary_data_size=rows.nbytes)]}).encode()
        async with served(SumModel("m")) as app, client(app.port) as http2:
            heard = await http2.ask(
                "/v2/models/m/infer", head + rows.tobytes(), {"inference-header-content-length": str(len(head))}
            )
        assert json.loads(heard.body)["outputs"][0]["data"] == pytest.approx(rows.sum(axis=-1).tolist())

    async def test_many_at_once_on_one_connection(self) -> None:
        async with served(SumModel("m")) as app, client(app.port) as http2:
            ids = [http2.begin("POST", "/v1/models/m:predict") for _ in range(50)]
            for number, stream_id in enumerate(ids):
                await http2.send(stream_id, json.dumps({"instances": [[number]]}).encode())
            answers = [json.loads((await http2.answer(stream_id)).body)["predictions"] for stream_id in ids]
        assert answers == [[number] for number in range(50)]

    async def test_a_call_of_grpc_hears_that_this_port_has_none(self) -> None:
        async with served(SumModel("m")) as app, grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(f"/{INFERENCE_SERVICE}/ServerLive")(b"", timeout=DEADLINE_S)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

    async def test_curl(self) -> None:
        async with served(SumModel("m")) as app:
            assert await printed(await curl(app.port)) == b'{"predictions":[10]} 2 200'


class TestClients:
    async def test_one_that_goes_frees_its_place(self) -> None:
        model = GateModel("m")
        async with served(model, container_concurrency=1) as app, client(app.port) as http2:
            gone = http2.begin("POST", "/v1/models/m:predict")
            await http2.send(gone, V1)
            await eventually("it is inside", lambda: one_inside(app))
            http2.h2.reset_stream(gone, h2.errors.ErrorCodes.CANCEL)
            http2.flush()
            model.release.set()
            assert (await http2.ask("/v1/models/m:predict", V1)).status == 200

    async def test_one_that_waits_while_the_server_drains_gets_its_answer(self) -> None:
        """By curl: h2's own client takes nothing more after the GOAWAY that says so."""
        model = GateModel("m")
        async with served(model, drain_quiet_s=0.0) as app:
            waiting = await curl(app.port)
            await eventually("it is inside", lambda: one_inside(app))
            draining = asyncio.create_task(drained(app))
            await eventually("it drains", lambda: drains(app))
            model.release.set()
            assert await printed(waiting) == b'{"predictions":[1]} 2 200'
            await draining


async def curl(port: int) -> asyncio.subprocess.Process:
    """One V1 request; prints its answer, the version of HTTP and the status."""
    path = shutil.which("curl") or pytest.skip("curl is not installed")
    options = ["-sS", "--http2-prior-knowledge", "-w", " %{http_version} %{http_code}", "-d", V1.decode()]
    url = f"http://127.0.0.1:{port}/v1/models/m:predict"
    return await asyncio.create_subprocess_exec(path, *options, url, stdout=asyncio.subprocess.PIPE)


async def printed(process: asyncio.subprocess.Process) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        return (await process.communicate())[0]


async def one_inside(app: Served) -> bool:
    return app.server.queue_proxy.stats.concurrency == 1


async def drains(app: Served) -> bool:
    return app.server.queue_proxy.drainer.draining


async def drained(app: Served) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await app.server.drain()


@contextlib.asynccontextmanager
async def echo(limits: HttpLimits) -> AsyncIterator[int]:
    """The port of a server that answers with what it was sent, in these bounds."""

    def answer(request: Request) -> Response:
        return Response(200, bytes(request.body))

    async with asyncio.TaskGroup() as tasks:
        server = Http2Server(Dispatcher(answer, tasks), tasks, clock=SystemClock(), limits=limits, streams_bodies=False)
        listener = await asyncio.get_running_loop().create_server(
            lambda: FirstBytes(lambda: Http2Connection(server), lambda: Http2Connection(server)), "127.0.0.1", 0
        )
        yield listener.sockets[0].getsockname()[1]
        listener.close()
        assert await server.drain(DEADLINE_S), "the client has gone, and its connection with it"


class TestBounds:
    async def test_a_body_beyond_the_limit_is_a_413_and_the_connection_lives(self) -> None:
        async with echo(HttpLimits(body_bytes_max=100)) as port, client(port) as http2:
            refused = http2.begin("POST", "/")
            await http2.send(refused, bytes(101), ended=False)
            heard = await http2.answer(refused)
            assert (heard.status, heard.body) == (413, b"request body too large: at most 100 bytes\n")
            assert (await http2.ask("/", bytes(100))).body == bytes(100)

    async def test_a_body_that_does_not_come_is_a_408(self) -> None:
        async with echo(HttpLimits(body_stall_s=0.05)) as port, client(port) as http2:
            stalled = http2.begin("POST", "/")
            await http2.send(stalled, b"a", ended=False)
            assert (await http2.answer(stalled)).status == 408

    async def test_a_body_that_comes_drop_by_drop_is_a_408(self) -> None:
        limits = HttpLimits(body_stall_s=0.05, body_bytes_per_s_min=1_000_000_000)
        async with echo(limits) as port, client(port) as http2:
            slow = http2.begin("POST", "/")

            async def drip() -> None:
                while http2.streams[slow].reset is None and not http2.streams[slow].ended:
                    await http2.send(slow, b"a", ended=False)
                    await asyncio.sleep(0)

            dripping = asyncio.create_task(drip())
            assert (await http2.answer(slow)).status == 408
            dripping.cancel()

    async def test_a_client_that_asks_first_is_told_to_go_on(self) -> None:
        async with echo(HttpLimits()) as port, client(port) as http2:
            asked = http2.begin("POST", "/", {"expect": "100-continue"})
            await http2.until(lambda: http2.streams[asked].informational)
            await http2.send(asked, b"here")
            heard = await http2.answer(asked)
        assert (heard.informational, heard.body) == ([b"100"], b"here")
