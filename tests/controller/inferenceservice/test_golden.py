"""What Ladle makes of KServe's own manifests, beside what KServe made of them.

`DIFFERENT` names the recordings that are meant to differ, with the words of the differences that are expected: what a later
part of Ladle brings, or what docs/differences.md lists. Everything else must be the same, and so must all else in these.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from controller.inferenceservice.offline import render
from tests.controller.inferenceservice.builders import SHARED

Objects = list[dict[str, Any]]

GOLDEN = SHARED / "golden/kserve"
pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")

_AGENT = ("containers.agent.env", "containers.agent.ports", 'template.spec.readinessProbe: extra: {"agent"')
"""The agent stands in the Knative Service, where its port can have no name and its probe is seen; KServe's webhook copies the
queue-proxy's environment into it, of which it needs the probe alone."""
_RENAMED_PORT = ("containers.kserve-container.ports", "containers.transformer-container.ports")
"""Knative renames the port in the pod; in the Knative Service it is KServe's."""
_BLOCKED = ("PredictorReady", "conditions.Ready", "lastFailureInfo", "targetModelState", "transitionStatus")
"""A condition with a reason where KServe leaves Unknown, and a message that names field and choices."""
_LOAD_FAILED = ("PredictorReady", "conditions.Ready")
"""False with the model's last words where KServe waits for a deadline."""
_GRAPH = ("Service.serving.knative.dev/ensemble-model", "Service.serving.knative.dev/model-chainer",
          "Service.serving.knative.dev/model-switch", "Service.serving.knative.dev/graph")  # fmt: skip
_MULTI_MODEL = ("modelconfig", "containers.agent", "volumes.model-", "kserve-container.volumeMounts")
DIFFERENT = {
    "explanation__aif__germancredit__bias": _AGENT,
    "fluid__fluid-isvc": _BLOCKED,
    "graph__ensemble": _GRAPH,
    "graph__sequence": _GRAPH,
    "graph__switch": _GRAPH,
    "multimodelserving__triton__multi_model_triton": _MULTI_MODEL,
    "v1beta1__advanced__timeout": ("livenessProbe",),  # Knative completes it in the pod.
    "v1beta1__custom__custom_model__custom": _RENAMED_PORT,
    "v1beta1__tensorflow__grpc": _RENAMED_PORT,
    "v1beta1__transformer__collocation__collocation": _RENAMED_PORT,
    # A first revision that is a canary already: the recorded service's status knows its stable revision, a new one's does not.
    "v1beta1__rollout__canary": ("spec.traffic", "latestRolledoutRevision"),
    "v1beta1__tensorflow__canary": ("spec.traffic", "latestRolledoutRevision"),
    "v1beta1__torchserve__canary__canary": ("spec.traffic", "latestRolledoutRevision"),
}
SEQUENCES = {
    "canary-failing": ("lastFailureInfo: missing",),  # Forgotten after recovery.
    "first-failing": (*_LOAD_FAILED, "lastFailureInfo: missing"),
    "runtime-appears": (*_BLOCKED, "Stopped", "copies", "not rendered"),
    # A missing key is known before a revision is made, which KServe's webhook then refuses.
    "credentials": (
        *_BLOCKED,
        "not rendered",
        "LatestDeploymentReady",
        "PredictorConfigurationReady",
        "latestCreatedRevision",
        "copies",
    ),
    "graph": _GRAPH,
    "logger-and-batcher": _AGENT,
    "runtime-problems": _BLOCKED,
    "deleted": (),
    "canary-promote": (),
    "canary-rollback": (),
    "scaling-fields": (),
    "stop-and-start": (),
    "tag-routing": (),
    "transformer-comes-and-goes": ("transformer", "Transformer"),  # A removed component is deleted.
}
"""Recordings of several steps; those of collocation and Standard mode belong to later parts."""
IDENTITIES: Objects = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}, "secrets": [{"name": "s3"}]},
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "s3",
            "annotations": {
                "serving.kserve.io/s3-endpoint": "minio.local:9000",
                "serving.kserve.io/s3-usehttps": "0",
                "serving.kserve.io/s3-region": "eu",
            },
        },
        "stringData": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
    },
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "storage-config"},
        "stringData": {"mine": '{"type": "s3", "bucket": "mlp"}'},
    },
]
"""What the sequence credentials was recorded with; the recording leaves secrets out."""


def compare(golden: Objects, rendered: Objects, *, status: bool) -> list[str]:
    sys.path.insert(0, str(SHARED / "tools"))
    try:
        import compare_kserve  # type: ignore[import-not-found]  # A tool beside the recordings.
    finally:
        sys.path.pop(0)
    return list(compare_kserve.compare(golden, rendered, status))


def load(path: Any) -> Objects:
    documents = [item for item in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if item]
    return [item for doc in documents for item in (doc["items"] if doc.get("kind", "").endswith("List") else [doc])]


def recorded() -> list[str]:
    return sorted(path.stem for path in (GOLDEN / "created").glob("*.yaml")) if GOLDEN.exists() else []


@pytest.fixture(scope="module")
def cluster() -> Objects:
    return load(GOLDEN / "cluster.yaml")


def offered(name: str) -> Objects:
    manifests = load(SHARED / f"fixtures/kserve/{name}.yaml")
    for item in manifests:
        item["metadata"]["namespace"] = "golden"
    return manifests


def unexpected(found: list[str], words: tuple[str, ...]) -> list[str]:
    return [line for line in found if not any(word in line for word in words)]


@pytest.mark.parametrize("name", recorded())
@pytest.mark.parametrize("phase", ["created", "ready"])
def test_children_and_status_are_kserves(phase: str, name: str, cluster: Objects) -> None:
    golden = load(GOLDEN / phase / f"{name}.yaml")
    if not any(item["kind"] == "InferenceService" for item in golden):
        pytest.skip("no InferenceService was made of it")
    live = [item for item in golden if item["kind"] != "InferenceService"]
    rendered = render(offered(name), existing=[*cluster, *live], namespace="golden", with_status=True)
    assert unexpected(compare(golden, rendered, status=True), DIFFERENT.get(name, ())) == []


@pytest.mark.parametrize("name", [name for name in recorded() if name not in DIFFERENT])
def test_children_before_anything_exists_are_those_that_kserve_creates(name: str, cluster: Objects) -> None:
    golden = load(GOLDEN / "created" / f"{name}.yaml")
    if not any(item["kind"] == "InferenceService" for item in golden):
        pytest.skip("no InferenceService was made of it")
    assert compare(golden, render(offered(name), existing=cluster, namespace="golden"), status=False) == []


def steps(name: str) -> Iterator[tuple[str, Objects, Objects]]:
    """The steps of a recording: name, objects, the InferenceServices before it."""
    before: Objects = []
    for step in yaml.load_all((GOLDEN / f"sequences/{name}.yaml").read_text(), Loader=yaml.CSafeLoader):
        yield step["step"], step["objects"], before
        before = [item for item in step["objects"] if item["kind"] == "InferenceService"]


def unsupported(manifests: Objects) -> bool:
    """Whether Ladle refuses these at once, which KServe stores and then cannot run."""
    specs = [item["spec"]["predictor"] for item in manifests]
    return any(
        spec.get("canaryTrafficPercent") == 101 or spec["model"].get("protocolVersion") == "v7" for spec in specs
    ) or any(len(item["metadata"]["name"]) > 53 for item in manifests)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("fresh", [True, False], ids=["from-its-own-status", "from-the-step-before"])
def test_every_step_ends_where_kserve_ended(name: str, fresh: bool, cluster: Objects) -> None:
    if name == "runtime-problems" and not fresh:
        pytest.skip("each of its steps starts from nothing")
    for step, golden, before in steps(name):
        services = [item for item in golden if item["kind"] == "InferenceService"]
        manifests = [{**item, "metadata": _written(item)} for item in services]
        if unsupported(manifests):
            continue
        known = copy.deepcopy(services if fresh else before)
        for item, now in zip(known, services, strict=False):
            item["metadata"]["generation"] = now["metadata"]["generation"]
        live = [item for item in golden if item["kind"] != "InferenceService"]
        rendered = render(
            manifests, existing=[*cluster, *live, *known, *IDENTITIES], namespace="golden", with_status=True
        )
        found = unexpected(compare(golden, rendered, status=True), SEQUENCES[name])
        if name == "canary-rollback" and not fresh:  # Between the two steps v2 had all traffic for a moment.
            found = unexpected(found, ("previousRolledoutRevision",))
        assert found == [], step


def _written(item: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in item["metadata"].items()
        if name in ("name", "namespace", "annotations", "labels")
    }
