"""What requests leave behind in a server: nothing.

The soak (`make test-long`) sends 100,000 requests of each kind to a server process and looks at its memory. Its short
version counts objects instead, which a few hundred requests are enough for; both are shown to see a model that leaks.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.protocol.messages import InferRequest
from tests.ladle.server.models import SumModel
from tests.ladle.server.serving import Served, served
from tests.ladle.server.traffic import KINDS, MODEL, Kind, anonymous_bytes
from tests.ladle.server.workers.fleet import FleetProcess
from tests.waiting import eventually

SOAK = 100_000
WARM_UP = 10_000
LEAKED_BYTES_MAX = 40
"""Of a request, over the soak: less than the smallest Python object with its place in a list."""
SHORT = 400
SERVER = """
import os, sys
from ladle import Model, serve
from ladle.server.options import ServerOptions

LEAK = os.environ.get("LEAK")
kept = []

class Sum(Model):
    thread_safe = True

    def predict(self, request):
        if LEAK:
            kept.append(bytes(int(LEAK)))
        return request.as_array().sum(axis=-1)

sys.exit(serve(Sum("m"), options=ServerOptions.parse(sys.argv[1:], os.environ)))
"""


class LeakyModel(SumModel):
    """Keeps a list for each request."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.kept: list[list[int]] = []

    def predict(self, request: InferRequest) -> Any:
        self.kept.append([len(self.kept)])
        return super().predict(request)


async def objects_left_by(kind: Kind, app: Served) -> int:
    """How many more objects there are after `SHORT` requests than after as many before."""
    await settled(kind, app)
    before = await settled(kind, app)
    return await settled(kind, app) - before


async def settled(kind: Kind, app: Served) -> int:
    await kind(app.server.http_port, app.server.grpc_port, SHORT)

    async def nobody_is_inside() -> bool:
        return not app.server._http.connections and not app.server.queue_proxy.stats.concurrency

    await eventually("all clients are gone", nobody_is_inside)
    await asyncio.sleep(0)
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_few_hundred_requests_leave_no_objects(kind: str) -> None:
    async with served(SumModel(MODEL), grpc_port=0) as app:
        assert await objects_left_by(KINDS[kind], app) < SHORT // 4


async def test_a_leak_would_be_seen() -> None:
    async with served(LeakyModel(MODEL)) as app:
        assert await objects_left_by(KINDS["V1"], app) >= SHORT


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FleetProcess]:
    leak = getattr(request, "param", "")
    server = FleetProcess(tmp_path, 1, script=SERVER, LEAK=leak)
    server.ready()
    yield server
    server.close()


def soak(process: FleetProcess, kind: str, count: int) -> float:
    """Bytes that the server's memory grew by for each request, once it was warm."""

    def send(requests: int) -> int:
        asyncio.run(KINDS[kind](process.port, process.grpc_port, requests))
        return anonymous_bytes(process.process.pid)

    warm = send(WARM_UP)
    grown = (send(count) - warm) / count
    sys.stderr.write(f"{kind}: {count} requests, {grown:.1f} bytes each\n")
    return grown


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow(process: FleetProcess, kind: str) -> None:
    assert soak(process, kind, SOAK) < LEAKED_BYTES_MAX


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("process", ["64"], indirect=True)
def test_a_leak_of_64_bytes_a_request_is_seen(process: FleetProcess) -> None:
    assert soak(process, "V1", SOAK) > LEAKED_BYTES_MAX
