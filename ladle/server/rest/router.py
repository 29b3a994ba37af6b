"""Paths to answers: the whole REST surface of a model server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, TypeAlias

from ladle.clock import Clock
from ladle.errors import Unsupported
from ladle.server.data_plane import DataPlane
from ladle.server.eventually import is_later
from ladle.server.http.application import Answer
from ladle.server.http.messages import Request, Response, path_of
from ladle.server.metrics import ServerMetrics
from ladle.server.rest.answers import error_answer, json_answer, method_not_allowed, not_found
from ladle.server.rest.v1 import V1
from ladle.server.rest.v2 import V2
from ladle.server.workers.fleet import Fleet

_READS = frozenset({"GET", "HEAD"})
_INSTEAD = dict.fromkeys(("systemsharedmemory", "cudasharedmemory"), "send tensors in the message itself")
"""What to do where Triton has an extension that this server has not."""
_METRICS_TIMEOUT_S = 2.0
"""How long a page waits for busy processes, whose numbers are then a little old. Prometheus waits 10 s by default."""


Parts: TypeAlias = tuple[str, ...]
"""A path at its slashes. It begins with one, so that the first part is empty."""


class RestRouter:
    """An http Handler for one data plane."""

    def __init__(self, data_plane: DataPlane, *, clock: Clock, metrics: ServerMetrics) -> None:
        self._v1 = V1(data_plane, clock=clock)
        self._v2 = V2(data_plane, clock=clock)
        self._data_plane = data_plane
        self._clock = clock
        self._metrics = metrics

    def __call__(self, request: Request) -> Answer:
        """The answer to any request; errors become answers here."""
        parts = _parts_of(request.target)
        try:
            answer = self._route(request, parts)
        except Exception as error:  # noqa: BLE001  # The top of a request: every error has an answer.
            answer = error_answer(error)
        if is_later(answer):
            return self._finish(answer, request, parts)
        assert isinstance(answer, Response)
        self._count(answer, request, parts)
        return answer

    async def _finish(self, answer: Coroutine[Any, Any, Response], request: Request, parts: Parts) -> Response:
        try:
            response = await answer
        except Exception as error:  # noqa: BLE001  # As above, for answers that take time.
            response = error_answer(error)
        self._count(response, request, parts)
        return response

    def _count(self, response: Response, request: Request, parts: Parts) -> None:
        """Requests for models are counted; those for readiness and the like would drown them."""
        if request.method != "POST" or len(parts) < 4:
            return
        took_s = self._clock.monotonic_s() - request.arrived_s
        name, status = parts[3].partition(":")[0], response.status
        self._data_plane.record(name, parts[1], code=str(status), ok=status < 400, took_s=took_s)

    def _route(self, request: Request, parts: Parts) -> Answer:
        # The two that matter first.
        match parts:
            case ["", "v2", "models", name, "infer"]:
                return self._v2.infer(request, name) if request.method == "POST" else method_not_allowed("POST")
            case ["", "v1", "models", action] if action.endswith((":predict", ":explain")):
                name, _, verb = action.rpartition(":")
                return self._post(request, lambda: self._v1.infer(request, name, verb))
            case ["", "v2", "repository", "models", name, "load"]:
                return self._post(request, lambda: self._v2.load(name, request))
            case ["", "v2", "repository", "models", name, "unload"]:
                return self._post(request, lambda: self._v2.unload(name))
            case ["", "v2", "repository", "index"]:
                return self._post(request, lambda: self._v2.index(request))
            case ["", "v2", "systemsharedmemory" | "cudasharedmemory" | "trace" | "logging" as part, *_]:
                raise Unsupported(f"/v2/{part} is not supported: {_INSTEAD.get(part, 'the log is JSON on stderr')}")
            case ["", "v2", "models", name, "versions", _, *_]:
                return self._v2.version(name)
            case _:
                return self._read(request, parts)

    def _post(self, request: Request, answer: Callable[[], Answer]) -> Answer:
        return answer() if request.method == "POST" else method_not_allowed("POST")

    def _read(self, request: Request, parts: Parts) -> Answer:
        answer = self._reader(request, parts)
        if answer is None:
            return not_found()
        return answer() if request.method in _READS else method_not_allowed("GET")

    def _reader(self, request: Request, parts: Parts) -> Callable[[], Answer] | None:
        match parts:
            case ["", ""]:
                return lambda: json_answer({"status": "alive"})
            case ["", "v1", "models"]:
                return self._v1.models
            case ["", "v1", "models", name]:
                return lambda: self._v1.model(name)
            case ["", "v2"]:
                return self._v2.server
            case ["", "v2", "health", "live"]:
                return self._v2.live
            case ["", "v2", "health", "ready"]:
                return self._v2.ready
            case ["", "v2", "models"]:
                return self._v2.models
            case ["", "v2", "models", "stats"]:
                return self._v2.all_statistics
            case ["", "v2", "models", name]:
                return lambda: self._v2.model(name)
            case ["", "v2", "models", name, "stats"]:
                return lambda: self._v2.statistics(name)
            case ["", "v2", "models", name, "config"]:
                return lambda: self._v2.config(name)
            case ["", "v2", "models", name, "ready"]:
                return lambda: self._v2.model_ready(name)
            case ["", "metrics"]:
                return lambda: self._page(request)
        return None

    def _page(self, request: Request) -> Answer:
        self.refresh_gauges()
        accept, fleet = request.header(b"accept"), self._data_plane.fleet
        return self._common_page(accept, fleet) if fleet is not None else _page(self._metrics.page(accept))

    async def _common_page(self, accept: str, fleet: Fleet) -> Response:
        """What all processes counted."""
        together = ServerMetrics()
        for outcome in await fleet.ask("metrics", timeout_s=_METRICS_TIMEOUT_S):
            together.absorb(outcome["result"])
        return _page(together.page(accept, fleet.pids()))

    def refresh_gauges(self) -> None:
        """Brings the metrics that tell what models are up to date."""
        served = [found for found in self._data_plane.repository.served() if found.ready]
        properties = {one.model.name: one.model.metadata().properties for one in served}
        self._metrics.engine.replace({(name, found.get("engine", "python")): 1.0 for name, found in properties.items()})
        self._metrics.device.replace(
            {
                (name, found["device"], str("device_reason" in found).lower()): 1.0
                for name, found in properties.items()
                if "device" in found
            }
        )


def _page(rendered: tuple[bytes, bytes]) -> Response:
    body, content_type = rendered
    return Response(200, body, content_type=content_type)


@lru_cache(maxsize=256)  # As path_of.
def _parts_of(target: bytes) -> Parts:
    return tuple(path_of(target).split("/"))
