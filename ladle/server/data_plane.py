"""What a model server does, whichever protocol asks: one set of answers for V1, V2 over REST, and gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ladle.clock import Clock
from ladle.errors import ModelNotFound, Unsupported
from ladle.protocol.messages import InferRequest, ModelMetadata
from ladle.server.eventually import Eventually
from ladle.server.metrics import ServerMetrics
from ladle.server.repository import ModelRepository, ModelState, ServedModel
from ladle.server.workers.fleet import Fleet, Outcome

EXTENSIONS = (
    *("model_repository_extension", "model_repository", "binary_tensor_data"),
    *("model_configuration", "statistics"),
)
"""KServe's name for the repository extension, and the names that the protocol's documents use."""


LOAD_TIMEOUT_S = 3600.0
"""How long the other processes may take to load a model. A guess: the largest take minutes."""


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One model of the repository, as its index lists it."""

    name: str
    state: ModelState
    reason: str
    version: str = ""


class WorkerFailed(Exception):
    """What was asked of all processes failed in one; the message is that one's error."""


class DataPlane:
    """Answers for the models of one repository; raises the errors of `ladle.errors`."""

    def __init__(
        self, repository: ModelRepository, *, clock: Clock, metrics: ServerMetrics, fleet: Fleet | None = None
    ) -> None:
        """`fleet`: the processes that are this server, where they are several."""
        self.repository = repository
        self.fleet = fleet
        self._clock = clock
        self._metrics = metrics

    def live(self) -> bool:
        """Whether the process answers at all."""
        return True

    def ready(self) -> bool:
        """Whether every model is loaded, in every process."""
        return self.repository.ready if self.fleet is None else self.fleet.ready()

    def model_ready(self, name: str) -> bool:
        """Whether this model is loaded; ModelNotFound."""
        return self.repository.find(name).ready

    def server_metadata(self) -> ServerMetadata:
        return ServerMetadata("ladle", server_version(), EXTENSIONS)

    def model_metadata(self, name: str) -> ModelMetadata:
        """What the model takes and gives; before it is loaded, its name alone."""
        served = self.repository.find(name)
        return served.model.metadata() if served.ready else served.metadata

    def index(self, *, only_ready: bool = False) -> list[IndexEntry]:
        """Every model with its state."""
        return [
            IndexEntry(served.model.name, served.state, served.detail)
            for served in self.repository.served()
            if served.ready or not only_ready
        ]

    def predict(self, served: ServedModel, request: InferRequest) -> Eventually[Any]:
        """What the model answered, in whatever form it did."""
        if served.batcher is not None:
            return served.batcher.run(served.predict, request)
        return served.runner.run(served.predict, request)

    def explain(self, served: ServedModel, request: InferRequest) -> Eventually[Any]:
        """The model's explanation."""
        return served.runner.run(served.explain, request)

    def record(self, name: str, protocol: str, *, code: str, ok: bool, took_s: float) -> None:
        """Counts one request for a model that was answered, whatever the answer."""
        served = self.repository.get(name)
        if served is None:
            name = ""  # Names come from clients, and each would be a series of its own.
        else:
            statistics = served.statistics
            (statistics.success if ok else statistics.fail).add(took_s)
            if ok:
                statistics.last_inference_s = self._clock.wall_s()
        self._metrics.requests.add((name, protocol, code))
        self._metrics.duration.series(name, protocol).observe(took_s)

    async def load(self, name: str) -> None:
        """Loads a model, in every process; raises what its load raises."""
        if self.fleet is None:
            await self.repository.load(name)
        else:
            _check(await self.fleet.ask("load", name, timeout_s=LOAD_TIMEOUT_S))

    async def unload(self, name: str) -> None:
        """Lets a model go, in every process; ModelNotFound."""
        if self.fleet is None:
            await self.repository.unload(name)
        else:
            self.repository.find(name)
            _check(await self.fleet.ask("unload", name, timeout_s=LOAD_TIMEOUT_S))

    def refuse_overrides(self, name: str, parameters: object) -> None:
        """ModelNotFound; Unsupported where a load brings a configuration or files of its own, as Triton takes them."""
        if not self.repository.can_load(name):
            raise ModelNotFound(name)
        if parameters:
            raise Unsupported(
                f"Model with name {name} is loaded as it lies in its directory: loading takes no parameters"
            )

    def refuse_version(self, name: str, model_version: str) -> None:
        """Models have one version, without a name; Unsupported for any other."""
        if model_version:
            raise Unsupported(f"Model with name {name} has no versions, got {model_version}")


def _check(outcomes: Sequence[Outcome]) -> None:
    """Where one process failed, the whole server did; they fail alike, so that one reason says it."""
    errors = [outcome["error"] for outcome in outcomes if "error" in outcome]
    if errors:
        raise WorkerFailed(errors[0])


def server_version() -> str:
    """The version of this package; "0" where it runs without being installed."""
    try:
        return version("ladle")
    except PackageNotFoundError:
        return "0"
