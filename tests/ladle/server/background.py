"""A model server in a thread of its own, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc

from ladle.server.loop import run_loop
from ladle.server.model import Model
from tests.ladle.server.serving import Served, served

DEADLINE_S = 30.0


class Background:
    """Serves while the block runs."""

    def __init__(self, *models: Model, **options: Any) -> None:
        self._models = models
        self._options = options
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: run_loop(self._serve()))
        self.app: Served
        self.loop: asyncio.AbstractEventLoop
        self.channel: grpc.Channel
        """To the server's gRPC port, where it has one."""

    @property
    def port(self) -> int:
        return self.app.port

    async def _serve(self) -> None:
        async with served(*self._models, **self._options) as self.app:
            self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            self._ready.set()
            await self._end.wait()

    def __enter__(self) -> Background:
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.app.server.grpc_port}")
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(DEADLINE_S)
