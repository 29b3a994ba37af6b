"""The models of one server: which there are, which are ready, and why one is not."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from enum import StrEnum

from ladle.clock import Clock
from ladle.errors import ModelNotFound, ModelNotReady
from ladle.log import get_logger
from ladle.protocol.messages import ModelMetadata
from ladle.server.batcher import Batcher
from ladle.server.execution import Call, Runner, in_daemon_thread
from ladle.server.hooks import EXPLAIN, PREDICT, compose
from ladle.server.metrics import ServerMetrics
from ladle.server.model import Model
from ladle.server.model_files import directory_bytes
from ladle.server.model_folders import ModelFolders
from ladle.server.statistics import ModelStatistics

log = get_logger(__name__)


_LAST_UNLOAD_S = 5.0
"""How long a model may take to let go when the server ends. A guess: a part of Kubernetes' grace of 30 s."""


class ModelState(StrEnum):
    """As the model repository extension of the protocol names them."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


class ServedModel:
    """A model with what the server keeps about it."""

    def __init__(self, model: Model, runner: Runner, metrics: ServerMetrics) -> None:
        self.model = model
        self.runner = runner
        self.batcher: Batcher | None = None
        """Where the model's requests are batched."""
        self.preprocess = metrics.preprocess.series(model.name)
        """Decoding a request."""
        self.queue = metrics.queue.series(model.name)
        """Waiting for the body and for a slot."""
        self.postprocess = metrics.postprocess.series(model.name)
        """Encoding an answer."""
        self._metrics = metrics
        self.statistics = ModelStatistics(self.preprocess, metrics.predict.series(model.name), self.postprocess)
        self._bind()
        self.state = ModelState.LOADING
        self.detail = ""
        """Why it is not ready."""
        self.wanted = True
        """Whether the server's readiness waits for it: not for one that was unloaded by request."""
        self.metadata = ModelMetadata(name=model.name)
        self.size_bytes: int | None = None
        """Of its files, as they were when it was loaded; None where it has none."""
        self._loading = asyncio.Lock()

    def waited(self, seconds: float) -> None:
        """A request waited this long for its batch to go."""
        self.statistics.queue.add(seconds)
        self._metrics.batch_wait.series(self.model.name).observe(seconds)

    def sent(self, rows: int) -> None:
        """A batch went to the model."""
        self._metrics.batch_size.series(self.model.name).observe(rows)

    def _bind(self) -> None:
        name = self.model.name
        model, runner = self.model, self.runner
        self.predict = Call(compose(model.steps(PREDICT), runner), self._metrics.predict.series(name).observe)
        self.explain = Call(compose(model.steps(EXPLAIN), runner), self._metrics.explain.series(name).observe)

    @property
    def ready(self) -> bool:
        return self.state is ModelState.READY and self.model.healthy()

    async def load(self) -> None:
        """Loads the model, in a thread; raises what its `load` raises."""
        async with self._loading:
            self.wanted, self.state, self.detail = True, ModelState.LOADING, "It is loading."
            try:
                if inspect.iscoroutinefunction(self.model.load):
                    await self.model.load()
                    await in_daemon_thread(self._measure)
                else:
                    await in_daemon_thread(self._load_and_measure)
                self.metadata = self.model.metadata()
                self._bind()  # A model may decide in `load` what its `predict` is.
            except BaseException as error:  # Not handled, only noted: the caller hears of it.
                self.state, self.detail = ModelState.UNAVAILABLE, f"{type(error).__name__}: {error}"
                raise
            self.state, self.detail = ModelState.READY, ""

    def _load_and_measure(self) -> None:
        # One after the other in one thread: starting another takes as long as looking at a small model's files.
        self.model.load()
        self._measure()

    def _measure(self) -> None:
        if self.model.directory is not None:
            self.size_bytes = directory_bytes(self.model.directory)

    def leave_out(self) -> None:
        """Treats the model as unloaded without having loaded it."""
        self.wanted, self.state, self.detail = False, ModelState.UNAVAILABLE, "It was unloaded."

    async def unload(self) -> None:
        async with self._loading:
            self.leave_out()
            await in_daemon_thread(self.model.unload)
            self._bind()  # Else a model that replaced its functions in `load` would be held by the old ones.


class ModelRepository:
    """Models by name."""

    def __init__(
        self,
        models: Iterable[Model],
        *,
        clock: Clock,
        metrics: ServerMetrics,
        threads: int,
        make_batcher: Callable[[Runner, ServedModel], Batcher] | None = None,
        folders: ModelFolders | None = None,
    ) -> None:
        """`threads`: how many calls of a thread-safe model may run at once. `folders`: where further models may be found."""
        self._clock = clock
        self._metrics = metrics
        self._threads = threads
        self._make_batcher = make_batcher
        self._folders = folders
        self._models: dict[str, ServedModel] = {}
        for model in models:
            self.add(model)

    def add(self, model: Model) -> ServedModel:
        """Registers a model, which is not loaded yet; one of the same name is replaced."""
        served = self._models[model.name] = self._prepare(model)
        return served

    def _prepare(self, model: Model) -> ServedModel:
        runner = Runner(self._clock, threads=self._threads_of(model))
        served = ServedModel(model, runner, self._metrics)
        if self._make_batcher is not None:
            served.batcher = self._make_batcher(runner, served)
        return served

    def _threads_of(self, model: Model) -> int:
        return self._threads if model.thread_safe else 1

    def names(self) -> list[str]:
        return list(self._models)

    def served(self) -> list[ServedModel]:
        return list(self._models.values())

    def get(self, name: str) -> ServedModel | None:
        """The model of that name, if there is one."""
        return self._models.get(name)

    def find(self, name: str) -> ServedModel:
        """The model of that name, ready or not; ModelNotFound."""
        served = self._models.get(name)
        if served is None:
            raise ModelNotFound(name)
        return served

    def find_ready(self, name: str) -> ServedModel:
        """The model of that name that can answer; ModelNotFound or ModelNotReady."""
        served = self.find(name)
        if not served.ready:
            raise ModelNotReady(name, served.detail or "It says so itself.")
        return served

    @property
    def ready(self) -> bool:
        """Whether every model that is wanted can answer."""
        return all(served.ready or not served.wanted for served in self._models.values())

    def can_load(self, name: str) -> bool:
        """Whether there is a model of that name: a known one, or one that lies in a folder of its own by now."""
        return name in self._models or (self._folders is not None and self._folders.has(name))

    async def load(self, name: str) -> None:
        """Loads a model, again if it is loaded; raises what its `load` raises.

        One that is found in its folder is known from then on, if it can be loaded: else the server would count as not ready.
        """
        if name in self._models or self._folders is None or not self._folders.has(name):
            await self._load(self.find(name))
            return
        found = self._prepare(self._folders.open(name))
        try:
            await self._load(found)
        except BaseException:  # Cancelled too: its threads would outlive it.
            found.runner.close()
            raise
        if self._models.setdefault(name, found) is not found:  # Somebody else asked for it at the same time.
            found.runner.close()

    async def _load(self, served: ServedModel) -> None:
        name = served.model.name
        log.info("loading model", model=name)  # The last words of a process that its model file ends.
        began_s = self._clock.monotonic_s()
        await served.load()
        served.runner.allow(self._threads_of(served.model))  # A model may learn in `load` whether it is thread-safe.
        took_s = self._clock.monotonic_s() - began_s
        self._metrics.load.set((name,), took_s)
        if served.size_bytes is not None:
            self._metrics.size.set((name,), served.size_bytes)
        log.info("model loaded", model=name, seconds=round(took_s, 3), **served.metadata.properties)

    async def unload(self, name: str) -> None:
        """Lets a model go; its name stays known, so that it can be loaded again."""
        await self.find(name).unload()
        log.info("model unloaded", model=name)

    async def unload_all(self) -> None:
        """Lets every loaded model go, as the server ends; one that fails at it, or takes too long, is left to the end."""
        for served in self._models.values():
            if served.state is not ModelState.READY:
                continue
            try:
                async with asyncio.timeout(_LAST_UNLOAD_S):
                    await served.unload()
            except Exception as error:  # noqa: BLE001  # A model's code may raise anything, and nobody is left to ask for it.
                log.error("model not unloaded", model=served.model.name, error=repr(error))

    def close(self) -> None:
        for served in self._models.values():
            served.runner.close()
