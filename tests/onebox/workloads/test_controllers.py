"""The workload controllers on the embedded API server, with a node that only pretends to run pods."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from controller.kube.client import KubeClient
from controller.kube.errors import ApiError
from controller.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINTS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from onebox.home import Home
from onebox.workloads.run import run
from tests.onebox.workloads.cluster import CLOCK, Cluster, running_cluster
from tests.onebox.workloads.objects import Object, deployment_manifest
from tests.onebox_api import ApiProcess

Box = tuple[KubeClient, Home]


@pytest.fixture
async def cluster(box: Box) -> AsyncIterator[Cluster]:
    async with running_cluster(*box) as started:
        yield started


def config_map(name: str, *owners: Object) -> Object:
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": True,
        }
        for owner in owners
    ]
    meta = {"name": name, "namespace": "ns", "ownerReferences": references}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}


def service_manifest(**spec: object) -> Object:
    whole = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ns"}, "spec": whole}


async def test_a_deployment_becomes_available_and_scales(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, deployment_manifest(2))
    ready = await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=2, updatedReplicas=2, observedGeneration=1)
    assert {found["type"]: found["status"] for found in ready["status"]["conditions"]} == {
        "Available": "True",
        "Progressing": "True",
    }
    pods = await cluster.items(PODS)
    assert all(pod["spec"]["nodeName"] == "onebox" for pod in pods)
    assert all(pod["metadata"]["name"].startswith("web-") for pod in pods)
    await cluster.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 0}})
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=None, replicas=None)
    await cluster.until("no pod is left", lambda: _count(cluster, 0))
    await cluster.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 3}})
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=3)


async def _count(cluster: Cluster, wanted: int) -> bool:
    return len(await cluster.items(PODS)) == wanted


async def test_a_pod_that_starts_at_once_costs_one_status_write(cluster: Cluster) -> None:
    created = await cluster.create(DEPLOYMENTS, deployment_manifest(1))
    versions: list[str] = []

    async def follow() -> None:
        async for event in cluster.client.watch(
            DEPLOYMENTS, "ns", resource_version=created["metadata"]["resourceVersion"], timeout_s=30
        ):
            versions.append(event.object["metadata"]["resourceVersion"])
            if event.object.get("status", {}).get("availableReplicas"):
                return

    async with asyncio.timeout(30):
        await follow()
    assert len(versions) == 1


async def test_a_new_template_rolls_without_a_gap(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, deployment_manifest(2, strategy={"rollingUpdate": {"maxUnavailable": 0}}))
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=2)
    before = set(await cluster.names(PODS))
    cluster.node.stuck.add("broken")
    await cluster.client.apply(DEPLOYMENTS, _image("broken"), field_manager="test")
    await cluster.until_status(DEPLOYMENTS, "web", updatedReplicas=1, availableReplicas=2, observedGeneration=2)
    assert before < set(await cluster.names(PODS))
    await cluster.client.apply(DEPLOYMENTS, _image("works"), field_manager="test")
    await cluster.until_status(
        DEPLOYMENTS, "web", updatedReplicas=2, replicas=2, availableReplicas=2, observedGeneration=3
    )
    images = {pod["spec"]["containers"][0]["image"] for pod in await cluster.items(PODS)}
    assert images == {"works"}


def _image(image: str) -> Object:
    manifest = deployment_manifest(2, image=image, strategy={"rollingUpdate": {"maxUnavailable": 0}})
    return {**manifest, "metadata": {"name": "web", "namespace": "ns"}}


async def test_a_rollout_that_stands_still_is_reported(cluster: Cluster) -> None:
    cluster.node.stuck.add("broken")
    await cluster.create(DEPLOYMENTS, deployment_manifest(1, image="broken", progressDeadlineSeconds=1))

    async def failed() -> bool:
        found = await cluster.find(DEPLOYMENTS, "web")
        conditions = ((found or {}).get("status") or {}).get("conditions") or ()
        return any(condition["reason"] == "ProgressDeadlineExceeded" for condition in conditions)

    await cluster.until("the deadline is reported", failed)


async def test_a_pod_that_somebody_deletes_is_replaced(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, deployment_manifest(1))
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=1)
    (name,) = await cluster.names(PODS)
    await cluster.client.delete(PODS, name, "ns")
    await cluster.until_gone(PODS, name)
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=1)
    assert await cluster.names(PODS) != [name]


async def test_deleting_a_deployment_takes_its_pods_along(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, deployment_manifest(2))
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=2)
    await cluster.client.delete(DEPLOYMENTS, "web", "ns")
    await cluster.until("the pods are gone", lambda: _count(cluster, 0))


async def test_endpoints_follow_the_pods(cluster: Cluster) -> None:
    await cluster.create(SERVICES, service_manifest())
    await cluster.create(DEPLOYMENTS, deployment_manifest(2))

    async def addresses(wanted: int) -> bool:
        found = await cluster.find(ENDPOINTS, "web")
        subsets = (found or {}).get("subsets") or []
        ready = [subset for subset in subsets if subset.get("addresses")]
        return found is not None and len(subsets) == len(ready) == wanted

    await cluster.until("two subsets", lambda: addresses(2))
    found = await cluster.find(ENDPOINTS, "web")
    assert found is not None
    ports = [subset["ports"][0] for subset in found["subsets"]]
    assert {port["name"] for port in ports} == {"http"}
    assert len({port["port"] for port in ports}) == 2
    await cluster.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 1}})
    await cluster.until("one subset", lambda: addresses(1))
    await cluster.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 0}})
    await cluster.until("no subset", lambda: addresses(0))
    await cluster.client.delete(SERVICES, "web", "ns")
    await cluster.until_gone(ENDPOINTS, "web")


async def test_a_service_without_pods_gets_empty_endpoints(cluster: Cluster) -> None:
    await cluster.create(SERVICES, service_manifest())
    await cluster.until("the endpoints are there", lambda: cluster.find(ENDPOINTS, "web"))


async def test_endpoints_of_a_service_without_selector_are_left_alone(cluster: Cluster) -> None:
    await cluster.create(SERVICES, service_manifest(selector={}))
    subsets = [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1, "protocol": "TCP"}]}]
    meta = {"name": "web", "namespace": "ns"}
    await cluster.create(ENDPOINTS, {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets})
    await cluster.create(DEPLOYMENTS, deployment_manifest(1))
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=1)
    found = await cluster.find(ENDPOINTS, "web")
    assert found is not None
    assert found["subsets"] == subsets


async def test_what_lost_its_owner_is_collected_through_all_generations(cluster: Cluster) -> None:
    top = await cluster.create(CONFIG_MAPS, config_map("top"))
    middle = await cluster.create(CONFIG_MAPS, config_map("middle", top))
    await cluster.create(CONFIG_MAPS, config_map("leaf", middle))
    await cluster.create(CONFIG_MAPS, config_map("other"))
    await cluster.client.delete(CONFIG_MAPS, "top", "ns")
    await cluster.until_gone(CONFIG_MAPS, "leaf")
    assert await cluster.names(CONFIG_MAPS) == ["other"]


async def test_an_object_with_another_owner_forgets_the_lost_one(cluster: Cluster) -> None:
    one, two = [await cluster.create(CONFIG_MAPS, config_map(name)) for name in ("one", "two")]
    await cluster.create(CONFIG_MAPS, config_map("child", one, two))
    await cluster.client.delete(CONFIG_MAPS, "one", "ns")

    async def forgot() -> bool:
        child = await cluster.find(CONFIG_MAPS, "child")
        return child is not None and [owner["name"] for owner in child["metadata"]["ownerReferences"]] == ["two"]

    await cluster.until("the child has one owner left", forgot)


async def test_a_foreground_deletion_takes_the_children_first(cluster: Cluster) -> None:
    top = await cluster.create(CONFIG_MAPS, config_map("top"))
    child = config_map("child", top)
    child["metadata"]["finalizers"] = ["test.ladle.dev/hold"]
    await cluster.create(CONFIG_MAPS, child)
    await cluster.client.delete(CONFIG_MAPS, "top", "ns", propagation="Foreground")

    async def child_ends() -> bool:
        found = await cluster.find(CONFIG_MAPS, "child")
        return found is not None and "deletionTimestamp" in found["metadata"]

    await cluster.until("the child is being deleted", child_ends)
    assert await cluster.find(CONFIG_MAPS, "top") is not None
    await cluster.client.patch(CONFIG_MAPS, "child", "ns", {"metadata": {"finalizers": None}})
    await cluster.until_gone(CONFIG_MAPS, "top")
    assert await cluster.find(CONFIG_MAPS, "child") is None


async def test_orphans_stay_and_forget_their_owner(cluster: Cluster) -> None:
    top = await cluster.create(CONFIG_MAPS, config_map("top"))
    await cluster.create(CONFIG_MAPS, config_map("child", top))
    await cluster.client.delete(CONFIG_MAPS, "top", "ns", propagation="Orphan")
    await cluster.until_gone(CONFIG_MAPS, "top")
    child = await cluster.find(CONFIG_MAPS, "child")
    assert child is not None
    assert not child["metadata"].get("ownerReferences")


async def test_an_object_whose_owner_never_existed_is_collected(cluster: Cluster) -> None:
    ghost = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ghost", "uid": "0000"}}
    await cluster.create(CONFIG_MAPS, config_map("child", ghost))
    await cluster.until_gone(CONFIG_MAPS, "child")


async def test_an_owner_deleted_while_nobody_looked_is_noticed_after_a_restart(
    box: Box, background: Callable[..., AbstractAsyncContextManager[None]]
) -> None:
    async with running_cluster(*box, controllers=False) as cluster:
        top = await cluster.create(CONFIG_MAPS, config_map("top"))
        await cluster.create(CONFIG_MAPS, config_map("child", top))
        await cluster.client.delete(CONFIG_MAPS, "top", "ns")
        async with background(run(cluster.client, box[1], CLOCK, random.Random(1))):
            await cluster.until_gone(CONFIG_MAPS, "child")


async def test_restarted_controllers_write_nothing_in_a_quiet_world(
    box: Box, background: Callable[..., AbstractAsyncContextManager[None]]
) -> None:
    async with running_cluster(*box, controllers=False) as cluster:
        async with background(run(cluster.client, box[1], CLOCK, random.Random(1))):
            await cluster.create(SERVICES, service_manifest())
            await cluster.create(DEPLOYMENTS, deployment_manifest(2))
            await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=2)
            await cluster.until("the account is there", lambda: cluster.find(SERVICE_ACCOUNTS, "default"))
            await cluster.until("two subsets", lambda: _subsets(cluster, 2))
        before = (await cluster.client.list(PODS)).resource_version
        async with background(run(cluster.client, box[1], CLOCK, random.Random(1))):
            # Something of its own that takes longer than everything a restarted controller would do wrong.
            await cluster.create(SERVICES, {**service_manifest(), "metadata": {"name": "probe", "namespace": "ns"}})
            await cluster.until("the new service is served", lambda: cluster.find(ENDPOINTS, "probe"))
        for resource in (PODS, DEPLOYMENTS, SERVICE_ACCOUNTS):
            for item in await cluster.items(resource):
                assert int(item["metadata"]["resourceVersion"]) <= int(before), item["metadata"]["name"]


async def _subsets(cluster: Cluster, wanted: int) -> bool:
    found = await cluster.find(ENDPOINTS, "web")
    return len([s for s in (found or {}).get("subsets") or () if s.get("addresses")]) == wanted


async def test_the_controllers_go_on_after_the_api_server_was_killed(cluster: Cluster, api: ApiProcess) -> None:
    await cluster.create(DEPLOYMENTS, deployment_manifest(1))
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=1)
    api.kill()
    await api.start()
    await cluster.client.patch(DEPLOYMENTS, "web", "ns", {"spec": {"replicas": 3}})
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=3)
    assert len(await cluster.names(PODS)) == 3


async def test_a_namespace_gets_its_account_and_goes_with_all_it_holds(cluster: Cluster) -> None:
    await cluster.until("the account is there", lambda: cluster.find(SERVICE_ACCOUNTS, "default"))
    await cluster.create(DEPLOYMENTS, deployment_manifest(2))
    await cluster.create(SERVICES, service_manifest())
    await cluster.create(CONFIG_MAPS, config_map("data"))
    await cluster.until_status(DEPLOYMENTS, "web", availableReplicas=2)
    await cluster.client.delete(NAMESPACES, "ns")

    async def gone() -> bool:
        try:
            await cluster.client.get(NAMESPACES, "ns")
        except ApiError as error:
            return error.status == 404
        return False

    await cluster.until("the namespace is gone", gone)
    for resource in (PODS, DEPLOYMENTS, SERVICES, ENDPOINTS, CONFIG_MAPS, SERVICE_ACCOUNTS):
        assert await cluster.names(resource) == []
