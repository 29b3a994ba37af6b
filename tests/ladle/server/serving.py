"""A whole model server in the test's loop."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from ladle.server.batch_queue import BatchSettings
from ladle.server.model import Model
from ladle.server.model_server import ModelServer, running
from ladle.server.options import ServerOptions
from ladle.server.payload_events import PayloadLogSettings
from ladle.server.queue_settings import QueueSettings
from tests.ladle.server.wire import Answer, ask


class Served:
    """A server with its models loaded, and what a client does with it."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server

    @property
    def port(self) -> int:
        return self.server.http_port

    async def get(self, path: str, **headers: str) -> Answer:
        return await ask(self.port, "GET", path, None, **headers)

    async def post(self, path: str, body: object, **headers: str) -> Answer:
        return await ask(
            self.port, "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers
        )

    async def v1(self, name: str, body: object, **headers: str) -> Answer:
        return await self.post(f"/v1/models/{name}:predict", body, **headers)

    async def v2(self, name: str, body: object, **headers: str) -> Answer:
        return await self.post(f"/v2/models/{name}/infer", body, **headers)


@contextlib.asynccontextmanager
async def served(
    *models: Model,
    load: bool = True,
    batching: BatchSettings | None = None,
    grpc_port: int | None = None,
    access_log: bool = False,
    docs: bool = False,
    payload_log: PayloadLogSettings | None = None,
    **queue: Any,
) -> AsyncIterator[Served]:
    options = ServerOptions(
        host="127.0.0.1",
        http_port=0,
        grpc_port=grpc_port,
        admin_port=0,
        batching=batching,
        access_log=access_log,
        docs=docs,
        payload_log=payload_log,
        queue=QueueSettings(**queue),
    )
    async with running(models, options) as server:
        if load:
            assert await server.load()
        yield Served(server)


def tensor(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        item["data"] = data
    if parameters:
        item["parameters"] = parameters
    return item
