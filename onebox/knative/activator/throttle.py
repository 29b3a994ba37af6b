"""Who waits for which revision, and which pod takes the next request.

Every pod has as many places as containerConcurrency says (0: endlessly many). Requests wait in order for a place, as many
and as large as the bounds allow. A place is given to one waiter and comes back exactly once, whatever becomes of the
waiter: that is what the cancellation tests are about.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onebox.knative.activator.limits import Limits
from onebox.knative.endpoints import Address

_FIRST_FIT_MAX = 3
"""Up to this containerConcurrency the first pod with a free place is taken; Knative's."""


class QueueFull(Exception):
    """No more requests may wait."""


@dataclass(slots=True, kw_only=True)
class Pod:
    """One pod and the requests in it that came from here."""

    address: Address
    ready: bool
    """As Kubernetes has it."""
    usable: bool
    """Ready, or it answered a probe of ours."""
    in_flight: int = 0


Place = asyncio.Future[Pod]


def choose(pods: Sequence[Pod], concurrency: int, *, turn: int, rng: random.Random) -> Pod | None:
    """The pod for the next request (spec/knative.md 4.3), or None where no place is free.

    `pods` are usable, in order of address; `turn` counts choices.
    """
    if concurrency == 0:
        return _lighter_of_two(pods, rng)
    free = [pod for pod in pods if pod.in_flight < concurrency]
    if not free:
        return None
    return free[0] if concurrency <= _FIRST_FIT_MAX else free[turn % len(free)]


def _lighter_of_two(pods: Sequence[Pod], rng: random.Random) -> Pod | None:
    if len(pods) <= 1:
        return pods[0] if pods else None
    first, second = rng.sample(pods, 2)
    if first.in_flight == second.in_flight:
        return first  # The sample is in random order.
    return min(first, second, key=lambda pod: pod.in_flight)


class Throttle:
    """The pods of one revision and the requests that wait for them."""

    def __init__(self, concurrency: int, *, limits: Limits, rng: random.Random) -> None:
        self._concurrency = concurrency
        self._limits = limits
        self._rng = rng
        self._pods: list[Pod] = []
        self._waiters: OrderedDict[Place, None] = OrderedDict()  # In order, and left in O(1) by those who give up.
        self._held_bytes = 0
        self._turn = 0

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def pods(self) -> tuple[Pod, ...]:
        """All of them, in order of address."""
        return tuple(self._pods)

    @property
    def capacity(self) -> int | None:
        """Requests that the usable pods take at once; None: endlessly many."""
        usable = sum(pod.usable for pod in self._pods)
        return None if usable and self._concurrency == 0 else usable * self._concurrency

    @property
    def is_cold(self) -> bool:
        """Whether no pod can take a request, and none waits for that yet."""
        return not self._waiters and not any(pod.usable for pod in self._pods)

    def configure(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._dispatch()

    def set_pods(self, ready: Iterable[Address], not_ready: Iterable[Address]) -> None:
        """The revision's pods as Kubernetes has them now."""
        known = {pod.address: pod for pod in self._pods}
        pods = {address: _updated(known.get(address), address, ready=False) for address in not_ready}
        pods |= {address: _updated(known.get(address), address, ready=True) for address in ready}
        self._pods = [pods[address] for address in sorted(pods)]
        self._dispatch()

    def unusable(self, *, ready_only: bool = False) -> list[Address]:
        """Pods that might take requests if a probe says so; `ready_only`: of those that Kubernetes calls ready."""
        return [pod.address for pod in self._pods if not pod.usable and (pod.ready or not ready_only)]

    def set_usable(self, address: Address, usable: bool) -> None:
        """What a probe, or a connection that failed, says about a pod."""
        for pod in self._pods:
            if pod.address == address:
                pod.usable = usable
        self._dispatch()

    def try_take(self) -> Pod | None:
        """A place that is free now, for a request that came after all that wait."""
        return None if self._waiters else self._take()

    async def take(self, held_bytes: int) -> Pod:
        """A place, as soon as it is this request's turn; `QueueFull` where there is no room to wait.

        The caller limits the time, and calls `release` when the request has left the pod.
        """
        limits = self._limits
        if len(self._waiters) >= limits.waiting_max or self._held_bytes + held_bytes > limits.held_bytes_max:
            raise QueueFull
        place: Place = asyncio.get_running_loop().create_future()
        self._waiters[place] = None
        self._held_bytes += held_bytes
        try:
            return await place
        except asyncio.CancelledError:
            # The place may have been given in the very step in which the client went away.
            if place.done() and not place.cancelled():
                self.release(place.result())
            raise
        finally:
            self._waiters.pop(place, None)
            self._held_bytes -= held_bytes

    def release(self, pod: Pod) -> None:
        """Gives a place back."""
        assert pod.in_flight > 0, "a place comes back once"
        pod.in_flight -= 1
        self._dispatch()

    def _take(self) -> Pod | None:
        self._turn += 1
        usable = [pod for pod in self._pods if pod.usable]
        pod = choose(usable, self._concurrency, turn=self._turn, rng=self._rng)
        if pod is not None:
            pod.in_flight += 1
        return pod

    def _dispatch(self) -> None:
        while self._waiters:
            place = next(iter(self._waiters))
            if place.done():  # Cancelled, and its task has not run since.
                del self._waiters[place]
                continue
            pod = self._take()
            if pod is None:
                return
            del self._waiters[place]
            place.set_result(pod)


def _updated(pod: Pod | None, address: Address, *, ready: bool) -> Pod:
    if pod is None:
        return Pod(address=address, ready=ready, usable=ready)
    if ready and not pod.ready:
        pod.usable = True
    elif pod.ready and not ready:
        pod.usable = False
    pod.ready = ready
    return pod
