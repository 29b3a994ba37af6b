"""How objects live and die: defaults, generations, finalizers, grace, namespaces, versions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from controller.kube.errors import Conflict, NotFound, Rejected
from controller.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    INFERENCE_SERVICES,
    KNATIVE_SERVICES,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    VIRTUAL_SERVICES,
    ResourceType,
)
from tests.onebox_api import ApiProcess


def _object(resource: ResourceType, name: str, **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": "default"} if resource.namespaced else {}), **parts.pop("metadata", {})}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **parts}


def _pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "image:1"}]
    return _object(PODS, name, spec={"nodeName": "onebox", "containers": containers, **spec})


APPLIED = [
    (DEPLOYMENTS, {"spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                                 "resources": {"limits": {"cpu": 1}, "requests": {"memory": "1Gi"}},
                                 "readinessProbe": {"httpGet": {"port": 80}}}],
                 "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x"}}]}}}}),
    (SERVICES, {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "name": "http"}]}}),
    (PODS, {"spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}]}}),
    (CONFIG_MAPS, {"data": {"a": "1"}}),
    (SECRETS, {"data": {"a": "MQ=="}}),
    (INFERENCE_SERVICES, {"spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "file:///m"}}}}),
    (KNATIVE_SERVICES, {"spec": {"template": {"spec": {"containers": [{"image": "x/y:1"}]}}}}),
    (VIRTUAL_SERVICES, {"spec": {"hosts": ["a.b"], "http": [{"route": [{"destination": {"host": "c"}}]}]}}),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "parts"), APPLIED, ids=[resource.kind for resource, _ in APPLIED])
async def test_applying_the_same_again_writes_nothing(
    shared_api: ApiProcess, resource: ResourceType, parts: dict[str, Any]
) -> None:
    body = _object(resource, "same", **parts)
    first = await shared_api.client.apply(resource, body, field_manager="controller")
    second = await shared_api.client.apply(resource, body, field_manager="controller", force=False)
    assert second == first
    third = await shared_api.client.replace(resource, first)
    assert third["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_replacing_by_what_was_first_sent_is_no_new_generation(shared_api: ApiProcess) -> None:
    body = _object(INFERENCE_SERVICES, "same", **APPLIED[5][1])
    await shared_api.client.create(INFERENCE_SERVICES, body)
    assert (await shared_api.client.replace(INFERENCE_SERVICES, body))["metadata"]["generation"] == 1


async def test_a_dry_run_stores_nothing(shared_api: ApiProcess) -> None:
    answer = await _raw(
        shared_api, "POST", "/api/v1/namespaces/default/configmaps?dryRun=All", _object(CONFIG_MAPS, "dry")
    )
    assert answer[0] == 201
    with pytest.raises(NotFound):
        await shared_api.client.get(CONFIG_MAPS, "dry", "default")
    stored = await shared_api.client.create(CONFIG_MAPS, _object(CONFIG_MAPS, "wet"))
    for path in ("/api/v1/namespaces/default/configmaps/wet?dryRun=All",):
        assert (await _raw(shared_api, "DELETE", path))[0] == 200
    assert await shared_api.client.get(CONFIG_MAPS, "wet", "default") == stored


async def test_a_running_pod_is_marked_and_goes_when_its_node_says_so(shared_api: ApiProcess) -> None:
    await shared_api.client.create(PODS, _pod(terminationGracePeriodSeconds=7))
    await shared_api.client.delete(PODS, "p", "default")
    marked = await shared_api.client.get(PODS, "p", "default")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 7
    await shared_api.client.delete(PODS, "p", "default", grace_period_s=2)
    shorter = await shared_api.client.get(PODS, "p", "default")
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 2
    await shared_api.client.delete(PODS, "p", "default", grace_period_s=60)
    assert (await shared_api.client.get(PODS, "p", "default"))["metadata"]["deletionGracePeriodSeconds"] == 2
    await shared_api.client.delete(PODS, "p", "default", grace_period_s=0)
    with pytest.raises(NotFound):
        await shared_api.client.get(PODS, "p", "default")


async def test_a_pod_that_has_ended_or_never_started_goes_at_once(shared_api: ApiProcess) -> None:
    await shared_api.client.create(PODS, _pod("unscheduled", nodeName=""))
    await shared_api.client.create(PODS, _pod("ended"))
    await shared_api.client.patch(PODS, "ended", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    for name in ("unscheduled", "ended"):
        await shared_api.client.delete(PODS, name, "default")
        with pytest.raises(NotFound):
            await shared_api.client.get(PODS, name, "default")


async def test_a_pods_status_carries_annotations_but_never_spec(shared_api: ApiProcess) -> None:
    await shared_api.client.create(PODS, _pod())
    ports = {"onebox.ladle.dev/ports": '{"80": 20001}'}
    body = {"metadata": {"annotations": ports}, "spec": {"nodeName": "other"}, "status": {"phase": "Running"}}
    patched = await shared_api.client.patch(PODS, "p", "default", body, subresource="status")
    assert patched["metadata"]["annotations"] == ports
    assert patched["spec"]["nodeName"] == "onebox"
    assert patched["status"]["phase"] == "Running"
    assert patched["status"]["qosClass"] == "BestEffort"


async def test_a_finalizer_holds_an_object_until_it_is_removed(shared_api: ApiProcess) -> None:
    body = _object(CONFIG_MAPS, "held", metadata={"finalizers": ["ladle.dev/test"]})
    await shared_api.client.create(CONFIG_MAPS, body)
    await shared_api.client.delete(CONFIG_MAPS, "held", "default")
    held = await shared_api.client.get(CONFIG_MAPS, "held", "default")
    assert held["metadata"]["deletionTimestamp"]
    changed = await shared_api.client.patch(CONFIG_MAPS, "held", "default", {"data": {"still": "here"}})
    assert changed["data"] == {"still": "here"}
    await shared_api.client.patch(CONFIG_MAPS, "held", "default", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await shared_api.client.get(CONFIG_MAPS, "held", "default")


async def test_finalizers_of_custom_kinds_need_no_domain(shared_api: ApiProcess) -> None:
    """An InferenceService that was exported from KServe carries one without; a built-in kind refuses it."""
    exported = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "exported", "namespace": "default", "finalizers": ["inferenceservice.finalizers"]},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}},
    }
    created = await shared_api.client.create(INFERENCE_SERVICES, exported)
    assert created["metadata"]["finalizers"] == ["inferenceservice.finalizers"]
    await shared_api.client.patch(INFERENCE_SERVICES, "exported", "default", {"metadata": {"finalizers": None}})
    await shared_api.client.delete(INFERENCE_SERVICES, "exported", "default")
    with pytest.raises(Rejected, match="finalizer"):
        await shared_api.client.create(CONFIG_MAPS, _object(CONFIG_MAPS, "x", metadata={"finalizers": ["bare"]}))


async def test_foreground_deletion_leaves_the_garbage_collectors_finalizer(shared_api: ApiProcess) -> None:
    await shared_api.client.create(CONFIG_MAPS, _object(CONFIG_MAPS, "owner"))
    await shared_api.client.delete(CONFIG_MAPS, "owner", "default", propagation="Foreground")
    held = await shared_api.client.get(CONFIG_MAPS, "owner", "default")
    assert held["metadata"]["finalizers"] == ["foregroundDeletion"]


async def test_a_delete_can_be_bound_to_one_incarnation(shared_api: ApiProcess) -> None:
    created = await shared_api.client.create(CONFIG_MAPS, _object(CONFIG_MAPS, "a"))
    await shared_api.client.delete(CONFIG_MAPS, "a", "default", uid="another")
    assert await shared_api.client.get(CONFIG_MAPS, "a", "default") == created
    await shared_api.client.delete(CONFIG_MAPS, "a", "default", uid=created["metadata"]["uid"])


async def test_a_namespace_goes_when_its_last_finalizer_does(shared_api: ApiProcess) -> None:
    await shared_api.client.create(NAMESPACES, _object(NAMESPACES, "short"))
    await shared_api.client.delete(NAMESPACES, "short")
    terminating = await shared_api.client.get(NAMESPACES, "short")
    assert terminating["status"]["phase"] == "Terminating"
    with pytest.raises(Rejected):
        await shared_api.client.create(CONFIG_MAPS, _object(CONFIG_MAPS, "late", metadata={"namespace": "short"}))
    body = {**terminating, "spec": {"finalizers": []}}
    status, _ = await _raw(shared_api, "PUT", "/api/v1/namespaces/short/finalize", body)
    assert status == 200
    with pytest.raises(NotFound):
        await shared_api.client.get(NAMESPACES, "short")


async def test_collections_are_deleted_by_selector(shared_api: ApiProcess) -> None:
    for name, app in (("a", "x"), ("b", "x"), ("c", "y")):
        await shared_api.client.create(CONFIG_MAPS, _object(CONFIG_MAPS, name, metadata={"labels": {"app": app}}))
    await _raw(shared_api, "DELETE", "/api/v1/namespaces/default/configmaps?labelSelector=app%3Dx")
    left = await shared_api.client.list(CONFIG_MAPS, "default")
    assert [item["metadata"]["name"] for item in left.items] == ["c"]


async def test_one_object_is_served_in_all_versions_of_its_kind(shared_api: ApiProcess) -> None:
    spec = {"hosts": ["a.b"], "http": [{"route": [{"destination": {"host": "c"}}]}]}
    old = ResourceType("networking.istio.io", "v1beta1", "virtualservices", "VirtualService")
    created = await shared_api.client.create(old, _object(old, "v", spec=spec))
    assert created["apiVersion"] == "networking.istio.io/v1beta1"
    assert (await shared_api.client.get(VIRTUAL_SERVICES, "v", "default"))["apiVersion"] == "networking.istio.io/v1"
    assert (await shared_api.client.get(old, "v", "default")) == created
    changed = await shared_api.client.patch(VIRTUAL_SERVICES, "v", "default", {"spec": {"hosts": ["x.y"]}})
    assert changed["metadata"]["generation"] == 2
    assert [item["apiVersion"] for item in (await shared_api.client.list(old)).items] == ["networking.istio.io/v1beta1"]


async def test_only_one_of_many_updates_of_one_version_succeeds(shared_api: ApiProcess) -> None:
    created = await shared_api.client.create(CONFIG_MAPS, _object(CONFIG_MAPS, "contested"))

    async def update(value: int) -> int:
        try:
            await shared_api.client.replace(CONFIG_MAPS, {**created, "data": {"winner": str(value)}})
        except Conflict:
            return 0
        return 1

    assert sum(await asyncio.gather(*(update(value) for value in range(20)))) == 1


async def test_services_get_addresses_of_their_own_and_keep_them(shared_api: ApiProcess) -> None:
    ports = [{"port": 80}]
    addresses = set()
    for name in ("a", "b", "c"):
        service = await shared_api.client.create(SERVICES, _object(SERVICES, name, spec={"ports": ports}))
        addresses.add(service["spec"]["clusterIP"])
    assert len(addresses) == 3
    headless = await shared_api.client.create(
        SERVICES, _object(SERVICES, "h", spec={"ports": ports, "clusterIP": "None"})
    )
    assert headless["spec"]["clusterIP"] == "None"
    replaced = await shared_api.client.replace(SERVICES, _object(SERVICES, "a", spec={"ports": [{"port": 81}]}))
    assert replaced["spec"]["clusterIP"] in addresses


async def test_defaults_of_deployments_are_kubernetes_own(shared_api: ApiProcess) -> None:
    container = {"name": "c", "image": "repo/image:v1", "readinessProbe": {"tcpSocket": {"port": 80}}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    stored = await shared_api.client.create(DEPLOYMENTS, _object(DEPLOYMENTS, "d", spec=spec))
    assert stored["spec"]["replicas"] == 1
    made = stored["spec"]["template"]["spec"]["containers"][0]
    assert made["imagePullPolicy"] == "IfNotPresent"
    assert made["readinessProbe"]["periodSeconds"] == 10
    scaled = await _raw(
        shared_api, "PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", {"spec": {"replicas": 4}},
        content_type="application/merge-patch+json",
    )  # fmt: skip
    assert scaled[1]["spec"]["replicas"] == 4
    assert (await shared_api.client.get(DEPLOYMENTS, "d", "default"))["metadata"]["generation"] == 2


async def test_knative_defaults_follow_the_stored_config_map(shared_api: ApiProcess) -> None:
    await shared_api.client.create(NAMESPACES, _object(NAMESPACES, "knative-serving"))
    config = _object(
        CONFIG_MAPS, "config-defaults", metadata={"namespace": "knative-serving"},
        data={"revision-timeout-seconds": "123"},
    )  # fmt: skip
    await shared_api.client.create(CONFIG_MAPS, config)
    body = _object(KNATIVE_SERVICES, "s", spec={"template": {"spec": {"containers": [{"image": "x/y:1"}]}}})
    stored = await shared_api.client.create(KNATIVE_SERVICES, body)
    assert stored["spec"]["template"]["spec"]["timeoutSeconds"] == 123


async def test_strangers_are_turned_away(shared_api: ApiProcess) -> None:
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
            async with session.get(f"{shared_api.url}/api/v1/namespaces", headers=headers, ssl=False) as answer:
                assert answer.status == 401
                assert (await answer.json())["reason"] == "Unauthorized"
        async with session.get(f"{shared_api.url}/readyz", ssl=False) as answer:
            assert answer.status == 200


async def test_lists_come_in_pages_of_one_moment(shared_api: ApiProcess) -> None:
    for index in range(5):
        await shared_api.client.create(CONFIG_MAPS, _object(CONFIG_MAPS, f"c{index}"))
    _, first = await _raw(shared_api, "GET", "/api/v1/namespaces/default/configmaps?limit=2")
    await shared_api.client.delete(CONFIG_MAPS, "c3", "default")
    token = first["metadata"]["continue"]
    _, second = await _raw(shared_api, "GET", f"/api/v1/namespaces/default/configmaps?limit=9&continue={token}")
    names = [item["metadata"]["name"] for page in (first, second) for item in page["items"]]
    assert names == ["c0", "c1", "c2", "c3", "c4"]
    assert first["metadata"]["remainingItemCount"] == 3


async def _raw(
    api: ApiProcess, method: str, path: str, body: Any = None, content_type: str = "application/json"
) -> tuple[int, Any]:
    token = next(iter(json.loads((api.home.pki / "tokens.json").read_text())))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
    data = None if body is None else json.dumps(body)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, api.url + path, data=data, headers=headers, ssl=False) as answer,
    ):
        return answer.status, await answer.json()
