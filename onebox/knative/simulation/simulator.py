"""Virtual time: arrivals, ends of requests, pods that come up, the autoscaler's seconds and ticks, in their order."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from onebox.knative.autoscaler.decision import TICK_S
from onebox.knative.autoscaler.revision import PROXY_RETRY_S, STEPS_MAX, RevisionScaler, RevisionView
from onebox.knative.autoscaler.scaling import RevisionScaling
from onebox.knative.simulation.plant import Plant, Pod, PodModel

_SECOND_S = 1.0
"""Pods are asked for their load once a second, as Knative does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What comes, and how long each request takes."""

    arrivals: NDArray[np.float64]
    """Seconds, ascending, shape (requests,)."""
    services: NDArray[np.float64]
    """Seconds of work, shape (requests,)."""
    duration_s: float


@dataclass(slots=True)
class Series:
    """One value for each second of the trace."""

    requests: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    pods: list[int] = field(default_factory=list)
    """Those that start or finish their last requests too."""
    wanted: list[int] = field(default_factory=list)
    inside: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    panic: list[bool] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a simulation leaves."""

    plant: Plant
    series: Series
    pod_s: float
    """Seconds of pods that existed, summed over pods, within the trace."""


class Simulator:
    """One revision under one workload; `run` once."""

    def __init__(
        self, scaling: RevisionScaling, annotations: Mapping[str, str], model: PodModel, load: Workload, *, seed: int
    ) -> None:
        # Time begins before the trace: the windows are full of silence when it starts, as those of a service at rest are.
        self._begin_s = 2.0 * math.ceil(scaling.stable_window_s) + TICK_S
        self._arrivals: list[float] = (load.arrivals + self._begin_s).tolist()
        self._end_s = self._begin_s + load.duration_s
        self._scaling = scaling
        self.plant = Plant(model, self._arrivals, load.services.tolist(), random.Random(seed))  # noqa: S311
        self.series = Series()
        self._timers: list[tuple[float, int, str, Pod | None]] = []
        self._sequence = 0
        self._came = 0  # Requests since the last second.
        self._told = 0
        self._proxied_since_s = 0.0
        self._pod_s = 0.0
        self._want = scaling.min_scale
        self._recheck_s = math.inf
        view = RevisionView(
            uid="simulated",
            annotations=annotations,
            container_concurrency=model.concurrency_limit,
            reachable=True,
            initialized=True,
            replicas=scaling.min_scale,
        )
        for _ in range(scaling.min_scale):
            self.plant.make_ready(self.plant.start_pod(), 0.0)
        self._scaler = RevisionScaler(scaling, view, ready=scaling.min_scale, now_s=0.0)

    def run(self) -> Run:
        """Plays the workload to the end of the trace, and then until every request is through."""
        self._at(_SECOND_S, "second")
        self._at(TICK_S, "tick")
        arrivals, plant = self._arrivals, self.plant
        position, count = 0, len(arrivals)
        while True:
            arrival_s = arrivals[position] if position < count else math.inf
            end_s = plant.ends[0][0] if plant.ends else math.inf
            timer_s = self._timers[0][0]
            if arrival_s <= end_s and arrival_s <= timer_s:
                self._arrive(position, arrival_s)
                position += 1
            elif end_s <= timer_s:
                plant.end_next()
            elif timer_s > self._end_s and position == count and not plant.inside:
                return Run(plant=plant, series=self.series, pod_s=self._pod_s)
            else:
                self._fire()

    def _arrive(self, request: int, now_s: float) -> None:
        plant = self.plant
        idle = plant.inside == 0 and (plant.proxied or not plant.ready)
        self._came += 1
        plant.arrive(request, now_s)
        if idle:  # The activator tells of the first request at once, and leaves it out of its next report.
            self._told = 1
            self._scaler.record(now_s, concurrency=1.0, rps=1.0)
            self._wake(now_s)

    def _wake(self, now_s: float) -> None:
        """A report of the activator about requests for a revision of which no pod is wanted is decided on at once."""
        if self._scaler.decision.desired <= 0:
            self._decide(now_s)

    def _decide(self, now_s: float) -> None:
        if self._scaler.decide(len(self.plant.ready), now_s):
            self._reconcile(now_s)

    def _at(self, time_s: float, what: str, pod: Pod | None = None) -> None:
        self._sequence += 1
        heapq.heappush(self._timers, (time_s, self._sequence, what, pod))

    def _fire(self) -> None:
        now_s, _, what, pod = heapq.heappop(self._timers)
        if what == "second":
            self._second(now_s)
        elif what == "tick":
            self._at(now_s + TICK_S, "tick")
            self._decide(now_s)
        elif what == "ready" and pod is not None:
            self.plant.make_ready(pod, now_s)
            self._reconcile(now_s)
        elif now_s == self._recheck_s:
            self._reconcile(now_s)

    def _second(self, now_s: float) -> None:
        self._at(now_s + _SECOND_S, "second")
        plant = self.plant
        plant.expire(now_s)
        concurrency = plant.average_inside(now_s, now_s - _SECOND_S)
        if plant.ready or plant.inside or self._came:
            self._scaler.record(
                now_s, concurrency=max(0.0, concurrency - self._told), rps=max(0, self._came - self._told)
            )
        if plant.proxied and plant.inside:
            self._wake(now_s)
        if self._begin_s < now_s <= self._end_s + _SECOND_S / 2:
            self._note()
        self._came = self._told = 0

    def _note(self) -> None:
        series, plant = self.series, self.plant
        series.requests.append(self._came)
        series.ready.append(len(plant.ready))
        series.pods.append(len(plant.pods))
        series.wanted.append(self._want)
        series.inside.append(plant.inside)
        series.held.append(len(plant.held))
        series.panic.append(self._scaler.panicking)
        self._pod_s += len(plant.pods) * _SECOND_S

    def _reconcile(self, now_s: float) -> None:
        """What the autoscaler at work does for one revision (autoscaler.Autoscaler), with an API that answers at once."""
        recheck_s: float | None = None
        for _ in range(STEPS_MAX):
            ready = len(self.plant.ready)
            proxied_since_s = self._proxied_since(now_s)
            plan = self._scaler.plan(ready, proxied_since_s=proxied_since_s, now_s=now_s)
            self._lead(proxied=self._scaler.report(plan, ready).proxied or ready == 0, now_s=now_s)
            self._want = max(0, plan.want)
            if plan.replicas is not None:
                self._scale(plan.replicas, now_s)
            recheck_s = PROXY_RETRY_S if self._scaler.may_drop and proxied_since_s is None else plan.recheck_after_s
            if plan.recheck_after_s != 0:
                break
        self._recheck_s = math.inf if recheck_s is None else now_s + max(recheck_s, PROXY_RETRY_S)
        if recheck_s is not None:
            self._at(self._recheck_s, "recheck")

    def _proxied_since(self, now_s: float) -> float | None:
        known = self.plant.proxied and now_s - self._proxied_since_s >= PROXY_RETRY_S
        return self._proxied_since_s if known else None

    def _lead(self, *, proxied: bool, now_s: float) -> None:
        if proxied and not self.plant.proxied:
            self._proxied_since_s = now_s
        self.plant.proxied = proxied

    def _scale(self, replicas: int, now_s: float) -> None:
        difference = replicas - self._scaler.view.replicas
        for _ in range(difference):
            pod = self.plant.start_pod()
            self._at(now_s + self.plant.model.start_s, "ready", pod)
        if difference < 0:
            self.plant.stop_pods(-difference)
        view = replace(self._scaler.view, replicas=replicas)
        self._scaler.configure(self._scaling, view, now_s=now_s)
