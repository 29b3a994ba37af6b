"""Each invariant of the simulation complains where its rule is broken on purpose; in a world where nobody does, none."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from controller.base.json import JsonObject
from controller.kube.resources import CONFIG_MAPS, DEPLOYMENTS, INFERENCE_SERVICES, REVISIONS
from tests.sim.api import open_api
from tests.sim.machines import BROKEN_IMAGE
from tests.sim.virtual_time import VirtualClock, run_virtually
from tests.sim.world import World


class Calm(World):
    """A short world without faults; what a saboteur does in it comes on top."""

    stormy_s, calm_s, quiet_s = 6.0, 25.0, 5.0

    async def storm(self, tasks: asyncio.TaskGroup) -> None:
        await self.apply(image="app:1")
        await asyncio.sleep(self.stormy_s)
        await self.traffic.request(self.service, 0.05)
        await self.sabotage()

    async def mistakes(self) -> None:
        """Left out: the world is short."""

    async def sabotage(self) -> None:
        """What breaks a rule."""

    async def deployment(self) -> JsonObject:
        return (await self.user.list(DEPLOYMENTS, self.namespace)).items[0]

    async def scale(self, replicas: int) -> None:
        """Writes as the autoscaler would, so that nobody but the bounds can object."""
        body = {"spec": {"replicas": replicas}}
        name = (await self.deployment())["metadata"]["name"]
        await self.user.patch(DEPLOYMENTS, name, self.namespace, body, field_manager="autoscaler")


class Overscaled(Calm):
    async def sabotage(self) -> None:
        await self.scale(self.spec["maxReplicas"] + 1)


class Underscaled(Calm):
    async def sabotage(self) -> None:
        await self.scale(0)


class Unowned(Calm):
    async def sabotage(self) -> None:
        meta = {"name": "stray", "namespace": self.namespace}
        await self.user.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})


class Orphaned(Calm):
    """As if the garbage collector had overlooked a child."""

    async def rest(self) -> None:
        await asyncio.sleep(self.calm_s)
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"}
        meta = {"name": "stray", "namespace": self.namespace, "ownerReferences": [owner]}
        await self.user.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        self.invariants.at_rest(await self.isvc(), self.traffic)


class Overwritten(Calm):
    """A controller that helps itself in its user's spec."""

    async def sabotage(self) -> None:
        body = {"spec": {"predictor": {"timeout": 7}}}
        await self.user.patch(INFERENCE_SERVICES, "model", self.namespace, body, field_manager="ladle-inferenceservice")


class Reasonless(Calm):
    async def sabotage(self) -> None:
        revision = (await self.user.list(REVISIONS, self.namespace)).items[0]
        body = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        name = revision["metadata"]["name"]
        await self.user.patch(REVISIONS, name, self.namespace, body, subresource="status", field_manager="x")


class Unreachable(Calm):
    """A gateway that keeps to an address of which it should have heard that it is gone."""

    async def sabotage(self) -> None:
        self.gateway.addresses = {key: tuple(self.node.pods) for key in self.gateway.addresses}
        for pod in self.node.pods.values():
            pod.listens = False
        await self.traffic.request(self.service, 0.05)
        for pod in self.node.pods.values():
            pod.listens = True


class Unrouted(Calm):
    """A gateway that forgets its routes for a moment."""

    async def sabotage(self) -> None:
        routes, self.gateway.routes = self.gateway.routes, {}
        await self.traffic.request(self.service, 0.05)
        self.gateway.routes = routes


class Held(Calm):
    """Requests that nobody lets go."""

    async def storm(self, tasks: asyncio.TaskGroup) -> None:
        await super().storm(tasks)
        tasks.create_task(self.traffic.request(self.service, 60.0))
        await asyncio.sleep(0.1)


class Untold(Calm):
    """A mistake of which the status says nothing."""

    async def mistakes(self) -> None:
        self.invariants.told(await self.isvc(), "seeded crash")


class Unready(Calm):
    async def sabotage(self) -> None:
        await self.apply(image=BROKEN_IMAGE)


class Restless(Calm):
    """A controller that writes each time it looks."""

    async def quiet(self) -> None:
        before = self.written()
        meta = {"labels": {"seen": "again"}}
        await self.clients[0].patch(INFERENCE_SERVICES, "model", self.namespace, {"metadata": meta})
        self.invariants.quiet(self.written() - before)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


SABOTAGE: tuple[tuple[type[Calm], str], ...] = (
    (Calm, ""),
    (Overscaled, "replicas of at most"),
    (Underscaled, "replicas of at least"),
    (Unowned, "ConfigMap stray has no owner"),
    (Orphaned, "outlives its owner"),
    (Overwritten, "several writers"),
    (Reasonless, "says no reason for Ready=False"),
    (Unreachable, "refused by all"),
    (Unrouted, "not found"),
    (Held, "1 requests still wait"),
    (Untold, "nobody is told of 'seeded crash'"),
    (Unready, "not Ready at last"),
    (Restless, "a quiet world is written to"),
)


def test_each_invariant_complains_where_it_is_broken(tmp_path: Path) -> None:
    found = run_virtually(play_all(tmp_path))
    for kind, words in SABOTAGE:
        said = found[kind]
        assert any(words in each for each in said) if words else said == [], f"{kind.__name__}: {said}"


async def play_all(root: Path) -> dict[type[Calm], list[str]]:
    """What was complained of in a world of each kind."""
    found = {}
    async with open_api(root, VirtualClock(), random.Random(0)) as server:
        for number, (kind, _) in enumerate(SABOTAGE):
            world = kind(server, number)
            world.spec |= {"minReplicas": 1, "maxReplicas": 2}
            await world.play()
            found[kind] = world.invariants.broken
    return found
