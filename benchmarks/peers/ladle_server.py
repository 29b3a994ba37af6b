"""Our runtime: queue-proxy, checks and metrics on, and beside it the same models without the queue-proxy.

`iris` and `forest` are served by the scikit-learn runtime with scikit-learn's own engine, so that all servers call the same
function; `iris-onnx` and `forest-onnx` as the runtime converts them. The port after `--http_port` leads to the same
models past the queue-proxy. What else is set comes from the environment, as in a pod.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from pathlib import Path

from ladle import InferRequest, Model
from ladle.clock import SystemClock
from ladle.protocol.tensor import Array
from ladle.server.http.application import Dispatcher
from ladle.server.http.server import HttpServer, serving
from ladle.server.loop import run_loop
from ladle.server.model_server import running
from ladle.server.options import ServerOptions
from ladle.server.rest.router import RestRouter
from runtimes.sklearnserver.model import SklearnModel
from runtimes.sklearnserver.settings import Engine, SklearnSettings


class Image(Model):
    thread_safe = True

    def predict(self, request: InferRequest) -> Array:
        mean: Array = request.as_array().mean(axis=(2, 3))
        return mean


def models(folder: Path) -> list[Model]:
    found: list[Model] = [Image("image")]
    for name in ("iris", "forest"):
        for ending, engine in (("", Engine.SKLEARN), ("-onnx", Engine.ONNX)):
            found.append(SklearnModel(name + ending, folder / name, settings=SklearnSettings(engine=engine)))
    return found


async def main() -> None:
    options = ServerOptions.parse(sys.argv[1:], os.environ)
    folder = Path(sys.argv[sys.argv.index("--models") + 1])
    async with running(models(folder), options) as server:
        assert await server.load()
        clock = SystemClock()
        router = RestRouter(server.data_plane, clock=clock, metrics=server.metrics)
        unguarded = HttpServer(Dispatcher(router, server.tasks), server.tasks, clock=clock)
        async with serving(unguarded):
            await unguarded.listen("127.0.0.1", options.http_port + 1)
            await asyncio.Event().wait()


warnings.filterwarnings("ignore", message="X does not have valid feature names")
run_loop(main())
