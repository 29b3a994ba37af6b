"""Tiny real models."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from ladle.errors import InferenceError
from ladle.protocol.messages import InferRequest, ModelMetadata, TensorMetadata
from ladle.server.model import Model


class SumModel(Model):
    """Rows to their sums."""

    thread_safe = True

    def predict(self, request: InferRequest) -> Any:
        return request.as_array().sum(axis=-1)

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            name=self.name,
            platform="test",
            inputs=(TensorMetadata("input-0", "FP64", (-1, -1)),),
            outputs=(TensorMetadata("output-0", "FP64", (-1,)),),
        )


class EchoModel(Model):
    """Inputs as outputs, under their own names."""

    def predict(self, request: InferRequest) -> Any:
        return request.payload if request.is_v1 else list(request.inputs)


class TwoOutputsModel(Model):
    def predict(self, request: InferRequest) -> Any:
        rows = request.as_array()
        return {"label": np.array(["yes", "no"])[: len(rows)], "score": rows[:, 0]}


class FailingModel(Model):
    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name)
        self.error = error

    def predict(self, request: InferRequest) -> Any:
        raise self.error


class GateModel(Model):
    """Waits in its thread until the test lets it go."""

    def __init__(self, name: str = "gate", *, thread_safe: bool = False) -> None:
        super().__init__(name)
        self.thread_safe = thread_safe
        self.release = threading.Event()
        self.inside = 0
        self.peak = 0
        self._lock = threading.Lock()

    def predict(self, request: InferRequest) -> Any:
        with self._lock:
            self.inside += 1
            self.peak = max(self.peak, self.inside)
        self.release.wait(60)
        with self._lock:
            self.inside -= 1
        return [1]


class StreamModel(Model):
    """Answers piece by piece."""

    def predict(self, request: InferRequest) -> Any:
        return self._pieces(request)

    async def _pieces(self, request: InferRequest) -> AsyncIterator[str]:
        for row in request.instances:
            await asyncio.sleep(0)
            yield f"data: {row}\n\n"


class AsyncModel(Model):
    async def predict(self, request: InferRequest) -> Any:  # type: ignore[override]
        async with asyncio.timeout(5):  # Needs a task of its own, as users' code may.
            await asyncio.sleep(0)
        return request.as_array() * 2


class RawModel(Model):
    accepts_raw = True

    def predict(self, request: InferRequest) -> Any:
        return request.payload if isinstance(request.payload, bytes) else {"parsed": request.payload}


class LoadModel(Model):
    """Loads when the test lets it, or fails."""

    def __init__(self, name: str = "load", error: Exception | None = None) -> None:
        super().__init__(name)
        self.release = threading.Event()
        self.error = error
        self.loads = 0
        self.unloads = 0

    def load(self) -> None:
        self.release.wait(60)
        self.loads += 1
        if self.error is not None:
            raise self.error

    def unload(self) -> None:
        self.unloads += 1

    def predict(self, request: InferRequest) -> Any:
        return [self.loads]


def failing_models() -> list[Model]:
    return [
        FailingModel("inference", InferenceError("the GPU is on fire")),
        FailingModel("bug", ZeroDivisionError("division by zero")),
        FailingModel("missing", NotImplementedError("not yet")),
    ]
