"""Kinds that are admitted and not built yet say so themselves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controller.base.clock import SystemClock
from controller.base.errors import Invalid
from controller.base.json import JsonObject
from controller.inferenceservice.later_kinds import plan_later_kind, run_later_kinds
from controller.kube.client import KubeClient
from controller.kube.resources import EVENTS, INFERENCE_GRAPHS, TRAINED_MODELS, ResourceType
from tests.onebox_api import ApiProcess
from tests.waiting import eventually

API_VERSION = "serving.kserve.io/v1alpha1"
NODES = {"root": {"routerType": "Sequence", "steps": [{"serviceName": "a"}]}}
GRAPH: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "InferenceGraph",
    "metadata": {"name": "graph", "namespace": "default"},
    "spec": {"nodes": NODES},
}
MODEL: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "TrainedModel",
    "metadata": {"name": "tm", "namespace": "default"},
    "spec": {"inferenceService": "iris", "model": {"framework": "sklearn", "memory": "1Gi", "storageUri": "gs://a/b"}},
}


@asynccontextmanager
async def watching(client: KubeClient) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run_later_kinds(client, SystemClock(), random.Random(1)))
        yield
        task.cancel()


async def ready_condition(client: KubeClient, resource: ResourceType, name: str) -> JsonObject:
    """The object's Ready condition, once it has one."""

    async def probe() -> JsonObject | None:
        found = await client.get(resource, name, "default")
        conditions = (found.get("status") or {}).get("conditions") or ()
        return next((item for item in conditions if item["type"] == "Ready"), None)

    said = await eventually(f"{resource.kind} {name} says how it is", probe)
    assert said is not None
    return said


async def test_a_graph_and_a_trained_model_say_that_nothing_serves_them(shared_api: ApiProcess) -> None:
    client = shared_api.client
    async with watching(client):
        for resource, manifest, instead in (
            (INFERENCE_GRAPHS, GRAPH, "call its services"),
            (TRAINED_MODELS, MODEL, "InferenceService of its own"),
        ):
            await client.create(resource, manifest)
            said = await ready_condition(client, resource, manifest["metadata"]["name"])
            assert (said["status"], said["reason"]) == ("False", "NotSupported")
            assert instead in said["message"]

        async def told() -> bool:
            events = (await client.list(EVENTS, "default")).items
            return {item["involvedObject"]["kind"] for item in events} == {"InferenceGraph", "TrainedModel"}

        await eventually("an event for each", told)


def test_a_second_look_plans_the_same_status() -> None:
    first = plan_later_kind(GRAPH, "why", 1_750_000_000.0)
    assert first.status is not None
    again = plan_later_kind({**GRAPH, "status": first.status}, "why", 1_760_000_000.0)
    assert again.status == first.status
    assert first.keep_children


def test_what_is_going_away_is_left_alone_and_what_cannot_be_read_is_named() -> None:
    leaving = {**GRAPH, "metadata": {**GRAPH["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert plan_later_kind(leaving, "why", 0.0).status is None
    with pytest.raises(Invalid, match=r"status\.conditions"):
        plan_later_kind({**GRAPH, "status": {"conditions": "none"}}, "why", 0.0)
