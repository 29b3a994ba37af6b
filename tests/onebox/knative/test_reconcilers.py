"""Knative Services on a real API server, from `apply` to Ready, through updates, failures and deletion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.base.json import JsonObject
from controller.kube.resources import (
    CONFIGURATIONS,
    DEPLOYMENTS,
    ENDPOINTS,
    KNATIVE_SERVICES,
    REVISIONS,
    ROUTES,
    SERVICES,
    VIRTUAL_SERVICES,
    ResourceType,
)
from tests.onebox.knative.box import KnativeBox, open_box, running
from tests.waiting import eventually

WRITES_MAX = 18
"""For one Service from its creation until it is Ready, statuses included; PodAutoscaler and ServerlessService are four."""


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[KnativeBox]:
    async with open_box(tmp_path / "home") as running:
        yield running


def weights(virtual_service: JsonObject) -> dict[str, int]:
    """Shares by revision on the public gateway's main host."""
    public = [
        entry
        for entry in virtual_service["spec"]["http"]
        if "headers" not in entry and "ingress-gateway" in entry["match"][0]["gateways"][0]
    ]
    return {target["destination"]["host"].partition(".")[0]: target["weight"] for target in public[0]["route"]}


async def gone(box: KnativeBox, resource: ResourceType, name: str) -> None:
    async def probe() -> bool:
        return name not in await box.names(resource)

    await eventually(f"{resource.kind} {name} is gone", probe)


async def test_from_creation_to_ready_with_few_writes(box: KnativeBox) -> None:
    service = await box.serve("plain", "plain-00001")
    assert service["status"]["url"] == "http://plain.default.localhost:8080"
    assert service["status"]["latestReadyRevisionName"] == "plain-00001"
    assert {"plain", "plain-00001", "plain-00001-private"} <= await box.names(SERVICES)
    assert "plain-00001-deployment" in await box.names(DEPLOYMENTS)
    assert weights(await box.get(VIRTUAL_SERVICES, "plain-ingress")) == {"plain-00001": 100}
    await box.until(REVISIONS, "plain-00001", Ready="True", Active="True")
    await box.quiet()
    assert box.writes.total() <= WRITES_MAX, box.writes


async def test_endpoints_are_the_pods_own_port(box: KnativeBox) -> None:
    await box.apply("plain")
    port = await box.make_ready("plain-00001")
    await box.until(KNATIVE_SERVICES, "plain", Ready="True")
    (subset,) = (await box.get(ENDPOINTS, "plain-00001"))["subsets"]
    assert [(found["name"], found["port"]) for found in subset["ports"]] == [("http", port)]


async def test_a_quiet_world_stays_quiet(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    await box.quiet()
    before = dict(box.writes)
    for resource, name in ((KNATIVE_SERVICES, "plain"), (REVISIONS, "plain-00001"), (ROUTES, "plain")):
        await box.client.patch(resource, name, "default", {"metadata": {"annotations": {"touched": "1"}}})
    await box.quiet()
    passed_on = {key: count for key, count in (box.writes - type(box.writes)(before)).items() if "status" in key}
    assert passed_on == {}


async def test_reconcilers_that_start_anew_write_nothing(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    await box.apply("slow")
    await box.until(REVISIONS, "slow-00001", Ready="Unknown:Deploying")
    await box.quiet()
    before = box.writes.total()
    async with running(box):
        await box.quiet()
    assert box.writes.total() == before, box.writes


async def test_what_waits_says_so(box: KnativeBox) -> None:
    await box.apply("slow")
    found = await box.until(KNATIVE_SERVICES, "slow", Ready="Unknown:RevisionMissing")
    assert found["status"]["latestCreatedRevisionName"] == "slow-00001"
    assert found["status"]["url"] == "http://slow.default.localhost:8080"
    await box.until(REVISIONS, "slow-00001", Ready="Unknown:Deploying", Active="Unknown:Queued")
    assert "slow-ingress" not in await box.names(VIRTUAL_SERVICES)


async def test_an_update_moves_traffic_when_the_new_revision_is_ready(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    await box.apply("plain", image="app:2")
    await box.pod_of("plain-00002")
    await box.until(KNATIVE_SERVICES, "plain", Ready="Unknown")
    assert weights(await box.get(VIRTUAL_SERVICES, "plain-ingress")) == {"plain-00001": 100}
    await box.make_ready("plain-00002")
    found = await box.until(KNATIVE_SERVICES, "plain", Ready="True")
    assert found["status"]["traffic"] == [{"revisionName": "plain-00002", "percent": 100, "latestRevision": True}]
    assert weights(await box.get(VIRTUAL_SERVICES, "plain-ingress")) == {"plain-00002": 100}

    async def in_reserve() -> bool:
        labels = (await box.get(REVISIONS, "plain-00001"))["metadata"]["labels"]
        return bool(labels["serving.knative.dev/routingState"] == "reserve")

    await eventually("the old revision is in reserve", in_reserve)


async def test_an_update_with_a_rollout_duration_moves_traffic_in_steps(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    slowly = {"metadata": {"annotations": {"serving.knative.dev/rollout-duration": "5s"}}}
    await box.client.patch(KNATIVE_SERVICES, "plain", "default", slowly)
    await box.apply("plain", image="app:2")
    await box.make_ready("plain-00002")
    seen: list[int] = []

    async def moved() -> bool:
        now = weights(await box.get(VIRTUAL_SERVICES, "plain-ingress")).get("plain-00002", 0)
        if now not in seen:
            seen.append(now)
        return now == 100

    await eventually("all traffic has moved", moved)
    assert seen == sorted(seen)
    assert 1 in seen
    assert any(1 < share < 100 for share in seen)
    found = await box.until(KNATIVE_SERVICES, "plain", Ready="True")
    assert found["status"]["traffic"] == [{"revisionName": "plain-00002", "percent": 100, "latestRevision": True}]


async def test_a_failing_update_takes_nothing_away(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    await box.apply("plain", image="app:2")
    await box.make_crash("plain-00002", 3, "no such model")
    found = await box.until(KNATIVE_SERVICES, "plain", Ready="False:RevisionFailed")
    message = next(c["message"] for c in found["status"]["conditions"] if c["type"] == "Ready")
    assert "no such model" in message
    await box.until(REVISIONS, "plain-00002", ContainerHealthy="False:ExitCode3")
    await box.until(ROUTES, "plain", Ready="True")
    assert weights(await box.get(VIRTUAL_SERVICES, "plain-ingress")) == {"plain-00001": 100}
    assert found["status"]["latestReadyRevisionName"] == "plain-00001"


async def test_a_first_revision_that_fails_is_told_on_every_level(box: KnativeBox) -> None:
    await box.apply("bad")
    await box.make_crash("bad-00001", 1, "boom")
    await box.until(KNATIVE_SERVICES, "bad", Ready="False", ConfigurationsReady="False:RevisionFailed")
    await box.until(CONFIGURATIONS, "bad", Ready="False:RevisionFailed")
    await box.until(ROUTES, "bad", Ready="False:RevisionMissing")
    await box.make_ready("bad-00001")
    await box.until(KNATIVE_SERVICES, "bad", Ready="True")


async def test_shares_and_tags_come_and_go(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    pinned = {"revisionName": "plain-00001", "latestRevision": False, "percent": 80, "tag": "prev"}
    latest = {"latestRevision": True, "percent": 20}
    await box.apply("plain", image="app:2", traffic=[latest, pinned])
    await box.make_ready("plain-00002")
    found = await box.until(KNATIVE_SERVICES, "plain", Ready="True")
    assert weights(await box.get(VIRTUAL_SERVICES, "plain-ingress")) == {"plain-00002": 20, "plain-00001": 80}
    assert [target.get("url") for target in found["status"]["traffic"]] == [
        None,
        "http://prev-plain.default.localhost:8080",
    ]
    assert "prev-plain" in await box.names(SERVICES)
    await box.apply("plain", image="app:2", traffic=[{"latestRevision": True, "percent": 100}])
    await gone(box, SERVICES, "prev-plain")
    assert await box.names(REVISIONS) == {"plain-00001", "plain-00002"}


async def test_a_target_that_does_not_exist_leaves_the_routes_alone(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    before = await box.get(VIRTUAL_SERVICES, "plain-ingress")
    await box.apply("plain", traffic=[{"revisionName": "plain-00009", "latestRevision": False, "percent": 100}])
    await box.until(KNATIVE_SERVICES, "plain", Ready="False:RevisionMissing")
    after = await box.get(VIRTUAL_SERVICES, "plain-ingress")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_a_name_of_the_users_own(box: KnativeBox) -> None:
    await box.serve("plain", "plain-mine", template={"name": "plain-mine"})
    assert await box.names(REVISIONS) == {"plain-mine"}


async def test_initial_scale_is_reached_before_ready(box: KnativeBox) -> None:
    await box.apply("three", template={"annotations": {"autoscaling.knative.dev/initial-scale": "3"}})
    await box.make_ready("three-00001")
    deployment = await box.get(DEPLOYMENTS, "three-00001-deployment")
    assert deployment["spec"]["replicas"] == 3
    found = await box.until(REVISIONS, "three-00001", Ready="Unknown:Deploying")
    assert found["status"]["actualReplicas"] == 1


async def test_not_ready_before_the_gateway_is(box: KnativeBox) -> None:
    box.gateway.behind = True
    await box.apply("plain")
    await box.make_ready("plain-00001")
    await box.until(ROUTES, "plain", AllTrafficAssigned="True", Ready="Unknown:IngressNotConfigured")
    box.gateway.behind = False
    box.gateway.tell("default", "plain-ingress")
    await box.until(KNATIVE_SERVICES, "plain", Ready="True")


async def test_deletion_takes_everything_along(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    await box.client.delete(KNATIVE_SERVICES, "plain", "default")
    for resource, name in (
        (CONFIGURATIONS, "plain"),
        (ROUTES, "plain"),
        (REVISIONS, "plain-00001"),
        (DEPLOYMENTS, "plain-00001-deployment"),
        (SERVICES, "plain-00001"),
        (SERVICES, "plain"),
        (VIRTUAL_SERVICES, "plain-ingress"),
        (ENDPOINTS, "plain-00001"),
    ):
        await gone(box, resource, name)


async def test_a_deployment_that_somebody_changed_is_mended(box: KnativeBox) -> None:
    await box.serve("plain", "plain-00001")
    broken: dict[str, Any] = {"metadata": {"labels": {"serving.knative.dev/revision": "other"}}}
    await box.client.patch(DEPLOYMENTS, "plain-00001-deployment", "default", broken)

    async def mended() -> bool:
        labels = (await box.get(DEPLOYMENTS, "plain-00001-deployment"))["metadata"]["labels"]
        return bool(labels["serving.knative.dev/revision"] == "plain-00001")

    await eventually("the label is back", mended)
