"""Services on the real API server with onebox's Knative beneath: from created to ready, through canaries and failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.base.clock import SystemClock
from controller.base.json import JsonObject
from controller.inferenceservice.run import run
from controller.kube.errors import NotFound
from controller.kube.resources import CLUSTER_SERVING_RUNTIMES, INFERENCE_SERVICES, PODS
from tests.controller.inferenceservice.builders import container_status, manifest, runtime
from tests.onebox.knative.box import KnativeBox, open_box
from tests.waiting import eventually

INIT = "storage-initializer"


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[KnativeBox]:
    async with open_box(root) as box, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run(box.client, SystemClock(), random.Random(1)))
        found = runtime().to_json()
        found["metadata"] = {"name": found["metadata"]["name"]}
        await box.client.apply(CLUSTER_SERVING_RUNTIMES, found, field_manager="user")
        yield box
        task.cancel()


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[KnativeBox]:
    async with opened(tmp_path / "home") as found:
        yield found


async def apply(box: KnativeBox, uri: str, **predictor: Any) -> None:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": uri}
    offered = {**manifest({"model": model, **predictor}), "metadata": {"name": "iris", "namespace": "default"}}
    await box.client.apply(INFERENCE_SERVICES, offered, field_manager="user")


async def until(box: KnativeBox, what: str, **expected: Any) -> JsonObject:
    """The service's status once Ready is `ready` and the predictor's fields are these."""
    last: JsonObject = {}

    async def probe() -> JsonObject | None:
        nonlocal last
        try:
            last = (await box.get(INFERENCE_SERVICES, "iris")).get("status") or {}
        except NotFound:
            return None
        told = {item["type"]: item["status"] for item in last.get("conditions") or ()}
        predictor = (last.get("components") or {}).get("predictor") or {}
        traffic = [(item["revisionName"][-1], item["percent"]) for item in predictor.get("traffic") or ()]
        known = {
            "ready": told.get("Ready"),
            "traffic": traffic,
            "stable": (predictor.get("latestRolledoutRevision") or "-")[-1],
        }
        return last if all(known[name] == value for name, value in expected.items()) else None

    try:
        found = await eventually(what, probe, timeout_s=20)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{last}") from None
    assert found is not None
    return found


async def test_it_becomes_ready_under_its_own_name_with_the_gateways_port(box: KnativeBox) -> None:
    await apply(box, "gs://models/1")
    await box.make_ready("iris-predictor-00001")
    status = await until(box, "ready", ready="True")
    port = box.api.home.settings().gateway_port
    assert status["url"] == f"http://iris.default.localhost:{port}"
    assert status["modelStatus"]["transitionStatus"] == "UpToDate"


async def test_consecutive_canaries_keep_the_stable_revision_until_one_is_promoted(box: KnativeBox) -> None:
    await apply(box, "gs://models/1")
    await box.make_ready("iris-predictor-00001")
    await until(box, "v1 stable", ready="True", stable="1")
    await apply(box, "gs://models/2")
    await box.make_ready("iris-predictor-00002")
    await until(box, "v2 promoted", ready="True", traffic=[("2", 100)], stable="2")
    await apply(box, "gs://models/3", canaryTrafficPercent=20)
    await box.make_ready("iris-predictor-00003")
    await until(box, "v3 is the canary of v2", ready="True", traffic=[("3", 20), ("2", 80)], stable="2")
    await apply(box, "gs://models/4", canaryTrafficPercent=30)
    await box.make_ready("iris-predictor-00004")
    await until(box, "v4 is the canary of v2", ready="True", traffic=[("4", 30), ("2", 70)], stable="2")
    await apply(box, "gs://models/4", canaryTrafficPercent=0)
    await until(box, "all traffic on v2", traffic=[("4", 0), ("2", 100)], stable="2")
    await apply(box, "gs://models/4")
    status = await until(box, "v4 promoted", ready="True", traffic=[("4", 100)], stable="4")
    assert status["components"]["predictor"]["previousRolledoutRevision"] == "iris-predictor-00002"


async def test_what_was_promoted_is_rolled_back_and_stays_so(box: KnativeBox) -> None:
    """Whatever is written first, the split or the status that remembers why."""
    await apply(box, "gs://models/1")
    await box.make_ready("iris-predictor-00001")
    await until(box, "v1 stable", ready="True", stable="1")
    await apply(box, "gs://models/2")
    await box.make_ready("iris-predictor-00002")
    for _ in range(3):
        await until(box, "v2 promoted", ready="True", traffic=[("2", 100)], stable="2")
        await apply(box, "gs://models/2", canaryTrafficPercent=0)
        await until(box, "all traffic on v1", ready="True", traffic=[("2", 0), ("1", 100)], stable="1")
        await apply(box, "gs://models/2")


async def test_a_model_that_cannot_be_fetched_names_its_uri_and_recovers(box: KnativeBox) -> None:
    await apply(box, "gs://models/nowhere")
    pod = await box.pod_of("iris-predictor-00001")
    failed = container_status(
        INIT,
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        last={"terminated": {"exitCode": 1, "message": "no such bucket", "reason": "Error"}},
    )
    patch = {"status": {"phase": "Pending", "initContainerStatuses": [_complete(failed)]}}
    await box.client.patch(PODS, pod["metadata"]["name"], "default", patch, subresource="status")
    status = await until(box, "failed", ready="False")
    predictor = next(item for item in status["conditions"] if item["type"] == "PredictorReady")
    assert predictor["reason"] == "ModelLoadFailed"
    assert status["modelStatus"]["lastFailureInfo"]["message"] == "gs://models/nowhere: no such bucket"
    await apply(box, "gs://models/1")
    await box.make_ready("iris-predictor-00002")
    status = await until(box, "recovered", ready="True")
    assert "lastFailureInfo" not in status["modelStatus"]


def _complete(status: dict[str, Any]) -> dict[str, Any]:
    return {"restartCount": 1, "image": "i", "imageID": "i", **status}
