"""The API server through its client: what is written is there, and is refused where it should be."""

from __future__ import annotations

import pytest

from controller.kube.errors import AlreadyExists, Conflict, NotFound, Rejected
from controller.kube.resources import CONFIG_MAPS, INFERENCE_SERVICES
from tests.onebox_api import ApiProcess

CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "default"},
    "data": {"k": "1"},
}
SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "iris", "namespace": "default"},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "file:///m"}}},
}


async def test_what_was_created_can_be_read_changed_and_deleted(shared_api: ApiProcess) -> None:
    created = await shared_api.client.create(CONFIG_MAPS, CONFIG)
    assert created["metadata"]["uid"]
    with pytest.raises(AlreadyExists):
        await shared_api.client.create(CONFIG_MAPS, CONFIG)
    patched = await shared_api.client.patch(CONFIG_MAPS, "a", "default", {"data": {"k": "2"}})
    assert patched["data"] == {"k": "2"}
    with pytest.raises(Conflict):
        await shared_api.client.replace(CONFIG_MAPS, {**created, "data": {"k": "3"}})
    await shared_api.client.delete(CONFIG_MAPS, "a", "default")
    with pytest.raises(NotFound):
        await shared_api.client.get(CONFIG_MAPS, "a", "default")


async def test_a_wrong_field_is_named_and_nothing_is_stored(shared_api: ApiProcess) -> None:
    wrong = {**SERVICE, "spec": {"predictor": {"minReplicas": "two", "model": {"modelFormat": {"name": "sklearn"}}}}}
    with pytest.raises(Rejected) as refused:
        await shared_api.client.create(INFERENCE_SERVICES, wrong)
    assert "spec.predictor.minReplicas" in str(refused.value)
    with pytest.raises(NotFound):
        await shared_api.client.get(INFERENCE_SERVICES, "iris", "default")


async def test_status_and_spec_are_written_through_their_own_paths(shared_api: ApiProcess) -> None:
    await shared_api.client.create(INFERENCE_SERVICES, {**SERVICE, "status": {"url": "http://ignored"}})
    body = {"status": {"url": "http://iris"}, "spec": {"predictor": {"minReplicas": 7}}}
    patched = await shared_api.client.patch(INFERENCE_SERVICES, "iris", "default", body, subresource="status")
    assert patched["status"] == {"url": "http://iris"}
    assert patched["metadata"]["generation"] == 1
    assert "minReplicas" not in patched["spec"]["predictor"]
    changed = await shared_api.client.patch(
        INFERENCE_SERVICES, "iris", "default", {"spec": {"predictor": {"minReplicas": 2}}, "status": None}
    )
    assert changed["metadata"]["generation"] == 2
    assert changed["status"] == {"url": "http://iris"}
