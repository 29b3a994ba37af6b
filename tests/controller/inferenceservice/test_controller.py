"""The controller at work: what it writes, how little, and what it makes of changes, refusals and restarts."""

from __future__ import annotations

import pytest

from controller.kube.errors import Rejected
from controller.kube.resources import (
    CLUSTER_SERVING_RUNTIMES,
    CONFIG_MAPS,
    INFERENCE_SERVICES,
    KNATIVE_SERVICES,
    SECRETS,
    SERVICES,
    VIRTUAL_SERVICES,
)
from tests.controller.inferenceservice.builders import manifest, runtime
from tests.controller.inferenceservice.conftest import FEATURES, NAMESPACE, ServiceBox
from tests.waiting import eventually

WRITES_MAX = 8
"""From created to Ready, events included."""
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
}


async def ready(box: ServiceBox, name: str = "iris") -> None:
    """Brings a service to Ready as Knative would: by steps."""
    child = f"{name}-predictor"
    await box.knative_says(child, ready="Unknown", created=f"{child}-00001")
    await box.knative_says(child, ready="Unknown", reason="RevisionMissing", message="waiting")
    await box.knative_says(child)
    await box.has_condition("Ready", "True", name=name)


async def test_a_service_becomes_ready_with_few_writes_and_then_rests(box: ServiceBox) -> None:
    async with box.controller() as writes:
        await box.apply(INFERENCE_SERVICES, manifest())
        external = await box.appears(SERVICES, "iris")
        assert external["spec"]["externalName"].startswith("knative-local-gateway")
        await ready(box)
        status = await box.has_condition("IngressReady", "True")
        assert status["url"] == "http://iris.ns.example.com"
        await box.appears(VIRTUAL_SERVICES, "iris")
        await box.says("Normal", "InferenceServiceReady")
        assert sum(writes.values()) <= WRITES_MAX, writes
        # A change that concerns every service makes it look again, and nothing differs.
        before = writes.copy()
        await box.apply(CONFIG_MAPS, {**FEATURES, "data": {**FEATURES["data"], "other": "x"}})
        await box.apply(INFERENCE_SERVICES, manifest(name="second"))
        await box.appears(SERVICES, "second")
        assert writes["PATCH virtualservices"] == before["PATCH virtualservices"]


async def test_a_new_controller_finds_nothing_to_write(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        await ready(box)
        await box.says("Normal", "InferenceServiceReady")
    async with box.controller() as writes:
        await box.apply(INFERENCE_SERVICES, manifest(name="second"))
        await box.has_condition("Stopped", "False", name="second")
        assert writes == {"PATCH services": 2, "PATCH inferenceservices/status": 1}


async def test_children_that_are_deleted_or_changed_come_back(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        await ready(box)
        old = await box.appears(VIRTUAL_SERVICES, "iris")
        await box.client.delete(VIRTUAL_SERVICES, "iris", NAMESPACE)

        async def anew() -> bool:
            found = await box.find(VIRTUAL_SERVICES, "iris")
            return found is not None and found["metadata"]["uid"] != old["metadata"]["uid"]

        await eventually("a new VirtualService", anew)
        await box.client.patch(VIRTUAL_SERVICES, "iris", NAMESPACE, {"spec": {"hosts": ["elsewhere.org"]}})

        async def mended() -> bool:
            found = await box.find(VIRTUAL_SERVICES, "iris")
            return found is not None and found["spec"]["hosts"] == old["spec"]["hosts"]

        await eventually("the hosts as they were", mended)


async def test_a_wrong_spec_says_why_and_leaves_what_serves(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        await ready(box)
        before = await box.appears(KNATIVE_SERVICES, "iris-predictor")
        await box.apply(INFERENCE_SERVICES, manifest({"model": {"modelFormat": {"name": "fortran"}}}))
        status = await box.has_condition("Ready", "False", "NoSupportingRuntime")
        assert "fortran" in status["modelStatus"]["lastFailureInfo"]["message"]
        assert status["url"] == "http://iris.ns.example.com"
        await box.says("Warning", "NoSupportingRuntime")
        after = await box.appears(KNATIVE_SERVICES, "iris-predictor")
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        await box.apply(INFERENCE_SERVICES, manifest())
        await box.has_condition("Ready", "True")


async def test_a_service_waits_for_its_runtime(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest({"model": {"modelFormat": {"name": "prophet"}}}))
        await box.has_condition("PredictorReady", "False", "NoSupportingRuntime")
        own = runtime("prophet", {"name": "prophet", "autoSelect": True})
        await box.apply(CLUSTER_SERVING_RUNTIMES, own.to_json())
        await box.appears(KNATIVE_SERVICES, "iris-predictor")
        await box.has_condition("PredictorReady", "Unknown")


async def test_a_runtime_that_changes_changes_its_services(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        await box.appears(KNATIVE_SERVICES, "iris-predictor")
        container = {"name": "kserve-container", "image": "example/rt:2"}
        await box.apply(CLUSTER_SERVING_RUNTIMES, runtime(containers=[container]).to_json())

        async def changed() -> bool:
            found = await box.appears(KNATIVE_SERVICES, "iris-predictor")
            return bool(found["spec"]["template"]["spec"]["containers"][0]["image"] == "example/rt:2")

        await eventually("the new image", changed)


async def test_a_change_is_ready_only_once_knative_has_seen_it(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        await ready(box)
        changed = await box.apply(INFERENCE_SERVICES, manifest({"minReplicas": 2}))
        generation = changed["metadata"]["generation"]

        async def seen() -> dict[str, str] | None:
            status = (await box.appears(INFERENCE_SERVICES, "iris"))["status"]
            told = {item["type"]: item["status"] for item in status["conditions"]}
            return told if status["observedGeneration"] == generation else None

        # Knative, that is this test, has said nothing since: what it said was about the first revision.
        told = await eventually("the change is in the status", seen)
        assert told is not None
        assert told["Ready"] == told["PredictorReady"] == "Unknown"
        await box.knative_says()
        await box.has_condition("Ready", "True")


@pytest.mark.parametrize("key", ["model", "sklearn"])
async def test_an_apply_from_a_model_to_containers_is_refused_with_the_way_out(box: ServiceBox, key: str) -> None:
    """Fields that were filled in belong to nobody, so server-side apply leaves them; so does a real API server."""
    model = {"storageUri": "gs://bucket/iris", **({"modelFormat": {"name": "sklearn"}} if key == "model" else {})}
    await box.apply(INFERENCE_SERVICES, {**manifest(), "spec": {"predictor": {key: model}}})
    custom = {
        **manifest(),
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "example/own"}]}},
    }
    with pytest.raises(Rejected, match=r"spec\.predictor\.containers.*`kubectl replace -f FILE`") as refused:
        await box.apply(INFERENCE_SERVICES, custom)
    assert "modelFormat" not in str(refused.value)
    stored = await box.appears(INFERENCE_SERVICES, "iris")
    await box.client.replace(INFERENCE_SERVICES, {**stored, "spec": custom["spec"]})
    assert "model" not in (await box.appears(INFERENCE_SERVICES, "iris"))["spec"]["predictor"]


async def test_a_child_that_is_refused_is_a_condition(box: ServiceBox) -> None:
    async with box.controller():
        broken = manifest(
            {"model": {"modelFormat": {"name": "sklearn"}, "ports": [{"containerPort": 1}, {"containerPort": 2}]}}
        )
        await box.apply(INFERENCE_SERVICES, broken)
        status = await box.has_condition("PredictorReady", "False", "ReconcileFailed")
        ready = next(item for item in status["conditions"] if item["type"] == "Ready")
        assert "ports" in ready["message"]
        await box.says("Warning", "ReconcileFailed")
        await box.apply(INFERENCE_SERVICES, manifest())
        await box.appears(KNATIVE_SERVICES, "iris-predictor")
        await box.has_condition("PredictorReady", "Unknown")


async def test_a_name_that_somebody_else_has_is_a_condition(box: ServiceBox) -> None:
    owner = {"apiVersion": "v1", "kind": "Secret", "name": "x", "uid": "elsewhere", "controller": True}
    taken = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "iris", "namespace": NAMESPACE, "ownerReferences": [owner]},
        "spec": {"type": "ExternalName", "externalName": "mine.org"},
    }
    await box.apply(SERVICES, taken)
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        status = await box.has_condition("PredictorReady", "False", "ReconcileFailed")
        ready = next(item for item in status["conditions"] if item["type"] == "Ready")
        assert "another object controls it" in ready["message"]
        assert (await box.appears(SERVICES, "iris"))["spec"]["externalName"] == "mine.org"


async def test_settings_that_cannot_be_read_block_every_service_and_tear_nothing_down(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        await box.appears(KNATIVE_SERVICES, "iris-predictor")
        await box.apply(CONFIG_MAPS, {**CONFIG, "data": {"ingress": "{no json"}})
        await box.has_condition("PredictorReady", "False", "InvalidConfig")
        assert await box.find(KNATIVE_SERVICES, "iris-predictor") is not None
        await box.apply(CONFIG_MAPS, {**CONFIG, "data": {"ingress": "{}"}})
        await box.has_condition("PredictorReady", "Unknown")


async def test_a_stopped_service_has_no_children_and_starts_again(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        await ready(box)
        await box.apply(INFERENCE_SERVICES, manifest(meta={"annotations": {"serving.kserve.io/stop": "true"}}))
        await box.has_condition("Stopped", "True")
        await box.disappears(VIRTUAL_SERVICES, "iris")
        await box.disappears(SERVICES, "iris")
        await box.apply(INFERENCE_SERVICES, manifest())
        await box.appears(SERVICES, "iris")
        await box.has_condition("Stopped", "False")


async def test_a_transformer_that_is_removed_goes(box: ServiceBox) -> None:
    transformer = {"containers": [{"name": "kserve-container", "image": "example/t:1"}]}
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest(transformer=transformer))
        await box.appears(KNATIVE_SERVICES, "iris-transformer")
        await box.apply(INFERENCE_SERVICES, manifest())

        async def going() -> bool:
            found = await box.find(KNATIVE_SERVICES, "iris-transformer")
            return found is None or "deletionTimestamp" in found["metadata"]

        await eventually("no transformer", going)


async def test_a_service_that_kserve_managed_before_can_be_deleted(box: ServiceBox) -> None:
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest())
        finalizers = {"metadata": {"finalizers": ["inferenceservice.finalizers"]}}
        await box.client.patch(INFERENCE_SERVICES, "iris", NAMESPACE, finalizers)
        await box.appears(KNATIVE_SERVICES, "iris-predictor")
        await box.client.delete(INFERENCE_SERVICES, "iris", NAMESPACE)
        await box.disappears(INFERENCE_SERVICES, "iris")


async def test_a_secret_that_is_missing_is_said_and_its_coming_is_noticed(box: ServiceBox) -> None:
    stored = {"model": {"modelFormat": {"name": "sklearn"}, "storage": {"key": "mine", "path": "iris"}}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "storage-config", "namespace": NAMESPACE},
        "stringData": {"mine": '{"type": "s3", "bucket": "models"}'},
    }
    async with box.controller():
        await box.apply(INFERENCE_SERVICES, manifest(stored))
        await box.has_condition("PredictorReady", "False", "SecretNotFound")
        await box.says("Warning", "SecretNotFound")
        await box.apply(SECRETS, secret)
        child = await box.appears(KNATIVE_SERVICES, "iris-predictor")
        (initializer,) = child["spec"]["template"]["spec"]["initContainers"]
        assert initializer["args"] == ["s3://models/iris", "/mnt/models"]


async def test_certificate_authorities_come_into_the_services_namespace(box: ServiceBox) -> None:
    authorities = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "authorities", "namespace": "kserve"},
        "data": {"cabundle.crt": "PEM", "other": "x"},
    }
    await box.apply(CONFIG_MAPS, authorities)
    named = {"storageInitializer": '{"caBundleConfigMapName": "authorities"}'}
    await box.apply(CONFIG_MAPS, {**CONFIG, "data": named})
    async with box.controller():
        for name in ("iris", "second"):  # They share the copy.
            await box.apply(INFERENCE_SERVICES, manifest(name=name))
            await box.appears(KNATIVE_SERVICES, f"{name}-predictor")
        copy = await box.appears(CONFIG_MAPS, "global-ca-bundle")
        assert copy["data"] == {"cabundle.crt": "PEM"}
        await box.client.delete(INFERENCE_SERVICES, "iris", NAMESPACE)
        await box.disappears(INFERENCE_SERVICES, "iris")
        assert await box.find(CONFIG_MAPS, "global-ca-bundle")
