"""Services that no admission has seen, as on a cluster without a webhook: the controller judges them by the same rules."""

from __future__ import annotations

import random
from typing import Any

import pytest

from controller.base.clock import SystemClock
from controller.inferenceservice.plan import plan_inference_service
from controller.inferenceservice.world import Namespaces, World
from controller.reconcile.plan import Plan
from tests.controller.inferenceservice.builders import conditions, manifest
from tests.onebox_api import ApiProcess


def planned(api: ApiProcess, predictor: dict[str, Any], **rest: Any) -> Plan:
    """What a controller that knows of nothing else plans for this stored object."""
    world = World(api.client, namespaces=Namespaces(), clock=SystemClock(), rng=random.Random(1))
    return plan_inference_service(world.snapshot(manifest(predictor, **rest)))


@pytest.mark.parametrize(
    ("predictor", "words"),
    [
        ({"timeout": -5}, "spec.predictor.timeout: Invalid value: -5: must be 0 or more seconds"),
        ({"canaryTrafficPercent": 101}, "spec.predictor.canaryTrafficPercent: Invalid value: 101: must be in [0, 100]"),
        (
            {"minReplicas": 3, "maxReplicas": 1},
            "spec.predictor.minReplicas: Invalid value: 3: must be at most maxReplicas",
        ),
    ],
)
async def test_what_admission_would_refuse_is_said_in_the_status(
    shared_api: ApiProcess, predictor: dict[str, Any], words: str
) -> None:
    plan = planned(shared_api, predictor)
    assert (plan.children, plan.keep_children) == ((), True)
    assert conditions(plan)["PredictorReady"] == ("False", "Invalid")
    assert conditions(plan)["Ready"] == ("False", "Invalid")
    (event,) = plan.events
    assert words in event.message


async def test_a_sound_service_is_made_whether_or_not_somebody_filled_in_its_defaults(shared_api: ApiProcess) -> None:
    container = {"containers": [{"name": "kserve-container", "image": "example/app:1"}], "model": None}
    plan = planned(shared_api, container)
    assert [child.resource.kind for child in plan.children] == ["Service", "Service"]


async def test_what_is_being_deleted_is_never_judged(shared_api: ApiProcess) -> None:
    leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["inferenceservice.finalizers"]}
    plan = planned(shared_api, {"timeout": -5}, meta=leaving)
    assert (plan.finalizers, plan.status) == ((), None)
