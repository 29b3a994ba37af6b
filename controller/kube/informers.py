"""The informers of one process, one for each kind, shared by everything in it that asks.

Two copies of the same objects cost twice the memory, and each watch costs the API server and this process the decoding of
every event. What a part of the process needs beyond that (an index, a subscription) it adds to the shared one.
"""

from __future__ import annotations

import asyncio
import random

from controller.base.clock import Clock
from controller.kube.client import KubeClient
from controller.kube.informer import Informer
from controller.kube.resources import ResourceType


class Informers:
    """Informers by kind, over all namespaces and without selectors; `run` keeps all of them fresh."""

    def __init__(self, client: KubeClient, *, clock: Clock, rng: random.Random) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._informers: dict[ResourceType, Informer] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def of(self, resource: ResourceType) -> Informer:
        """The informer of this kind; it runs while `run` does, whenever it was first asked for."""
        informer = self._informers.get(resource)
        if informer is None:
            informer = Informer(self._client, resource, clock=self._clock, rng=self._rng)
            self._informers[resource] = informer
            if self._tasks is not None:
                self._tasks.create_task(informer.run())
        return informer

    async def run(self) -> None:
        """Runs all informers, those to come included, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for informer in self._informers.values():
                tasks.create_task(informer.run())
            await asyncio.Event().wait()
