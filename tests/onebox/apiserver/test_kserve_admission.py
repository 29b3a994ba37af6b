"""Admission of KServe's kinds in the API server: by the stored settings, and beside the stored runtimes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.kube.errors import Rejected
from controller.kube.resources import (
    CLUSTER_SERVING_RUNTIMES,
    CONFIG_MAPS,
    INFERENCE_GRAPHS,
    INFERENCE_SERVICES,
    KNATIVE_SERVICES,
    NAMESPACES,
    SERVING_RUNTIMES,
    TRAINED_MODELS,
)
from tests.onebox_api import ApiProcess

KSERVE = "serving.kserve.io"


def runtime(name: str, *, namespace: str | None = "default", priority: int = 1) -> dict[str, Any]:
    formats = [{"name": "fortran", "version": "77", "autoSelect": True, "priority": priority}]
    return {
        "apiVersion": f"{KSERVE}/v1alpha1",
        "kind": "ServingRuntime" if namespace else "ClusterServingRuntime",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "spec": {
            "supportedModelFormats": formats,
            "protocolVersions": ["v1"],
            "containers": [{"name": "kserve-container", "image": "example/fortran:1"}],
        },
    }


async def test_two_runtimes_of_a_namespace_have_not_the_same_priority(shared_api: ApiProcess) -> None:
    client = shared_api.client
    await client.create(SERVING_RUNTIMES, runtime("first"))
    with pytest.raises(Rejected, match="ServingRuntime first has the same priority for format fortran 77"):
        await client.create(SERVING_RUNTIMES, runtime("second"))
    await client.create(SERVING_RUNTIMES, runtime("second", priority=2))
    change = {"spec": {"supportedModelFormats": runtime("second")["spec"]["supportedModelFormats"]}}
    with pytest.raises(Rejected, match=r"supportedModelFormats\[0\].priority"):
        await client.patch(SERVING_RUNTIMES, "second", "default", change)
    await client.create(CLUSTER_SERVING_RUNTIMES, runtime("first", namespace=None))
    with pytest.raises(Rejected, match="ClusterServingRuntime first has the same priority"):
        await client.create(CLUSTER_SERVING_RUNTIMES, runtime("second", namespace=None))


async def test_defaults_are_those_of_the_stored_settings(shared_api: ApiProcess) -> None:
    client = shared_api.client
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}})

    async def stored(name: str) -> dict[str, Any]:
        container = {"name": "kserve-container", "image": "example/app:1"}
        manifest = {
            "apiVersion": f"{KSERVE}/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"predictor": {"containers": [container]}},
        }
        made = await client.create(INFERENCE_SERVICES, manifest)
        return {**made["spec"]["predictor"]["containers"][0]["resources"]["limits"]}

    assert await stored("before") == {"cpu": "1", "memory": "2Gi"}
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
        "data": {"inferenceService": json.dumps({"resource": {"cpuLimit": "3", "cpuRequest": "500m"}})},
    }
    await client.create(CONFIG_MAPS, settings)
    assert await stored("after") == {"cpu": "3", "memory": "2Gi"}
    broken = {"data": {"inferenceService": "{"}}
    await client.patch(CONFIG_MAPS, "inferenceservice-config", "kserve", broken)
    assert await stored("broken") == {"cpu": "3", "memory": "2Gi"}


async def test_graphs_and_trained_models_are_judged(shared_api: ApiProcess) -> None:
    meta = {"name": "graph", "namespace": "default"}
    graph = {
        "apiVersion": f"{KSERVE}/v1alpha1",
        "kind": "InferenceGraph",
        "metadata": meta,
        "spec": {"nodes": {"first": {"routerType": "Sequence", "steps": [{"serviceName": "a"}]}}},
    }
    with pytest.raises(Rejected, match=r"spec.nodes.root: Required value"):
        await shared_api.client.create(INFERENCE_GRAPHS, graph)
    model = {
        "apiVersion": f"{KSERVE}/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": "tm", "namespace": "default"},
        "spec": {
            "inferenceService": "iris",
            "model": {"framework": "sklearn", "memory": "1Gi", "storageUri": "ftp://a/b"},
        },
    }
    with pytest.raises(Rejected, match=r"spec.model.storageUri.*s3://"):
        await shared_api.client.create(TRAINED_MODELS, model)


@pytest.mark.parametrize("containers", ["one", ["one"], [{"name": 3}], {"name": "a"}])
async def test_a_field_of_the_wrong_type_is_the_users_fault_whatever_admission_makes_of_it(
    shared_api: ApiProcess, containers: Any
) -> None:
    manifest = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": containers}}},
    }
    with pytest.raises(Rejected, match="containers"):
        await shared_api.client.create(KNATIVE_SERVICES, manifest)
