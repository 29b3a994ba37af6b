"""Pods and activator as queues: where each request waits, who serves it, and when it is through.

A pod works on `parallel` requests at once, first come, first served; others wait inside it. With a containerConcurrency its
queue-proxy lets in so many, and ten times as many wait there (503 beyond), as Knative's does. Without a ready pod, or while
the activator is in the path, requests are held by the activator, which gives each pod no more than its containerConcurrency.
The gateway picks the less busy of two random pods, as Envoy does.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from onebox.knative.activator.limits import Limits

_QUEUE_FACTOR: Final = 10
"""Requests that wait in a pod for each that runs; Knative's queue-proxy."""
_HELD_MAX: Final = Limits().waiting_max


class Fate(IntEnum):
    """What became of a request."""

    PENDING = 0
    SERVED = 1
    REJECTED = 2
    """503: the pod's or the activator's queue was full."""
    TIMED_OUT = 3
    """504: it waited longer than the revision's timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodModel:
    """How a pod of the revision behaves."""

    parallel: int
    """Requests that it really works on at once; ≥ 1."""
    concurrency_limit: int
    """containerConcurrency; 0: none."""
    start_s: float
    """From the wish for a pod to its readiness."""
    timeout_s: float

    @property
    def working(self) -> int:
        return min(self.parallel, self.concurrency_limit or self.parallel)

    @property
    def room(self) -> int:
        """Requests that may be inside a pod, running and waiting; 0: no limit."""
        return self.concurrency_limit * (1 + _QUEUE_FACTOR)


class Pod:
    __slots__ = ("busy", "leaving", "ready", "waiting")

    def __init__(self) -> None:
        self.busy = 0
        self.waiting: deque[int] = deque()
        self.ready = False
        self.leaving = False

    @property
    def inside(self) -> int:
        return self.busy + len(self.waiting)


class Plant:
    """All pods of one revision and the activator before them. Times are seconds; requests are indexes of `arrivals`."""

    def __init__(
        self, model: PodModel, arrivals: Sequence[float], services: Sequence[float], rng: random.Random
    ) -> None:
        self.model = model
        self.pods: list[Pod] = []
        self.ready: list[Pod] = []
        self.proxied = True
        """The activator is in the path."""
        self.held: deque[int] = deque()
        self.inside = 0
        """Requests that have come and not gone."""
        self.fates = bytearray(len(arrivals))
        self.cold = bytearray(len(arrivals))
        """1: it came while no pod was ready."""
        self.latencies = [0.0] * len(arrivals)
        self.ends: list[tuple[float, int, Pod]] = []
        """A heap of (end, request, pod): what is being worked on."""
        self._arrivals = arrivals
        self._services = services
        self._random = rng.random
        self._working = model.working
        self._area = 0.0
        self._area_s = 0.0

    # Requests.

    def arrive(self, request: int, now_s: float) -> None:
        self._move_to(now_s)
        self.inside += 1
        if not self.ready:
            self.cold[request] = 1
            self._hold(request)
        elif self.proxied and self.model.concurrency_limit:
            self._offer(request, now_s)
        else:
            self._enter(self._pick(), request, now_s)

    def end_next(self) -> None:
        """Ends the request that is through next."""
        now_s, request, pod = heapq.heappop(self.ends)
        self._move_to(now_s)
        pod.busy -= 1
        self._leave(request, Fate.SERVED, now_s)
        while pod.waiting and pod.busy < self._working:
            self._work(pod, pod.waiting.popleft(), now_s)
        if self.held and pod.ready:
            self._release(now_s)
        if pod.leaving and not pod.inside:
            self.pods.remove(pod)

    def expire(self, now_s: float) -> None:
        """Gives up what has waited longer than the timeout. Queues are in order, so that only their heads can have."""
        self._move_to(now_s)
        oldest_s = now_s - self.model.timeout_s
        for queue in (self.held, *(pod.waiting for pod in self.pods)):
            while queue and self._arrivals[queue[0]] < oldest_s:
                self._leave(queue.popleft(), Fate.TIMED_OUT, now_s)

    # Pods.

    def start_pod(self) -> Pod:
        pod = Pod()
        self.pods.append(pod)
        return pod

    def make_ready(self, pod: Pod, now_s: float) -> None:
        if pod.leaving:
            return
        pod.ready = True
        self.ready.append(pod)
        self._release(now_s)

    def stop_pods(self, count: int) -> None:
        """Takes pods away, those that are not ready and the newest first; they finish what they have."""
        newest_first = [pod for pod in self.pods[::-1] if not pod.leaving]
        for pod in sorted(newest_first, key=lambda pod: pod.ready)[:count]:
            pod.leaving, pod.ready = True, False
            if pod in self.ready:
                self.ready.remove(pod)
            if not pod.inside:
                self.pods.remove(pod)

    def average_inside(self, now_s: float, since_s: float) -> float:
        """The mean number of requests inside since `since_s`, the last time that this was asked."""
        self._move_to(now_s)
        area, self._area = self._area, 0.0
        return area / (now_s - since_s)

    def _move_to(self, now_s: float) -> None:
        self._area += self.inside * (now_s - self._area_s)
        self._area_s = now_s

    def _pick(self) -> Pod:
        ready, count = self.ready, len(self.ready)
        first = ready[int(self._random() * count)]
        second = ready[int(self._random() * count)]
        return first if first.busy + len(first.waiting) <= second.busy + len(second.waiting) else second

    def _enter(self, pod: Pod, request: int, now_s: float) -> None:
        if pod.busy < self._working:
            self._work(pod, request, now_s)
        elif (room := self.model.room) and pod.inside >= room:
            self._leave(request, Fate.REJECTED, now_s)
        else:
            pod.waiting.append(request)

    def _work(self, pod: Pod, request: int, now_s: float) -> None:
        pod.busy += 1
        heapq.heappush(self.ends, (now_s + self._services[request], request, pod))

    def _offer(self, request: int, now_s: float) -> None:
        """To a pod below its containerConcurrency, or into the activator's queue."""
        pod = min(self.ready, key=lambda pod: pod.busy + len(pod.waiting))
        if not self.held and pod.inside < self.model.concurrency_limit:
            self._enter(pod, request, now_s)
        else:
            self._hold(request)

    def _hold(self, request: int) -> None:
        if len(self.held) < _HELD_MAX:
            self.held.append(request)
        else:
            self._leave(request, Fate.REJECTED, self._area_s)

    def _release(self, now_s: float) -> None:
        limit = self.model.concurrency_limit
        while self.held and self.ready:
            pod = min(self.ready, key=lambda pod: pod.busy + len(pod.waiting))
            if limit and pod.inside >= limit:
                return
            self._enter(pod, self.held.popleft(), now_s)

    def _leave(self, request: int, fate: Fate, now_s: float) -> None:
        self.inside -= 1
        self.fates[request] = fate
        self.latencies[request] = now_s - self._arrivals[request]
