"""From a Knative Service, a trace and a service time to a simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.base.errors import Invalid, UserError
from controller.base.json import JsonView
from onebox.knative.autoscaler.annotations import validate_annotations
from onebox.knative.autoscaler.scaling import build_scaling
from onebox.knative.settings import ServingSettings
from onebox.knative.simulation.plant import PodModel
from onebox.knative.simulation.simulator import Run, Simulator, Workload
from onebox.knative.simulation.traffic import Traffic, arrivals_of

_SPREAD_MAX: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What no manifest says: how fast a pod is. A load test of one pod measures it; a wrong one makes a wrong forecast."""

    service_s: float
    """Mean seconds of work for one request, > 0."""
    spread: float = 0.0
    """Standard deviation of the work over its mean; 0: always the same, 1: about as exponential times."""
    parallel: int = 1
    """Requests that one pod works on at once without getting slower: its cores, for a model that computes."""
    cold_start_s: float = 1.0
    """From the wish for a pod until it is ready."""
    even: bool = False
    """Requests come at equal distances instead of at random."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, right, allowed in (
            ("--service-time", self.service_s, self.service_s > 0, "above 0s"),
            ("--spread", self.spread, 0 <= self.spread <= _SPREAD_MAX, f"in [0, {_SPREAD_MAX:g}]"),
            ("--parallel", self.parallel, self.parallel >= 1, "at least 1"),
            ("--cold-start", self.cold_start_s, self.cold_start_s >= 0, "at least 0s"),
        ):
            if not right:
                raise UserError("InvalidAssumption", f"{name} = {value:g}, must be {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionShape:
    """What the autoscaler and the queues read of a Knative Service's template."""

    name: str
    annotations: Mapping[str, str]
    container_concurrency: int
    timeout_s: float


def parse_shape(service: JsonView, settings: ServingSettings) -> RevisionShape:
    """The shape in a Knative Service; Invalid where its annotations are."""
    template = service.get("spec", {}).get("template", {})
    annotations = template.get("metadata", {}).get("annotations") or {}
    errors = validate_annotations(annotations, settings.scale)
    if errors:
        raise Invalid(errors)
    spec = template.get("spec", {})
    concurrency = spec.get("containerConcurrency")
    return RevisionShape(
        name=service.get("metadata", {}).get("name", "?"),
        annotations=annotations,
        container_concurrency=settings.defaults.container_concurrency if concurrency is None else int(concurrency),
        timeout_s=float(spec.get("timeoutSeconds") or settings.defaults.timeout_s),
    )


def simulate(
    shape: RevisionShape, traffic: Traffic, given: Assumptions, settings: ServingSettings
) -> tuple[Run, Workload]:
    """The run of this revision under this traffic; the same seed gives the same run."""
    rng = np.random.default_rng(given.seed)
    arrivals = arrivals_of(traffic, rng, even=given.even)
    load = Workload(arrivals=arrivals, services=_services(len(arrivals), given, rng), duration_s=traffic.duration_s)
    scaling = build_scaling(shape.annotations, shape.container_concurrency, reachable=True, settings=settings.scale)
    model = PodModel(
        parallel=given.parallel,
        concurrency_limit=shape.container_concurrency,
        start_s=given.cold_start_s,
        timeout_s=shape.timeout_s,
    )
    return Simulator(scaling, shape.annotations, model, load, seed=given.seed).run(), load


def _services(count: int, given: Assumptions, rng: np.random.Generator) -> NDArray[np.float64]:
    if given.spread == 0:
        return np.full(count, given.service_s)
    # A lognormal distribution with this mean and this standard deviation: never below zero, with a tail as latencies have it.
    sigma = math.sqrt(math.log1p(given.spread**2))
    return rng.lognormal(math.log(given.service_s) - sigma**2 / 2, sigma, count)
