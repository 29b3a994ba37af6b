"""What Ladle makes of KServe's own manifests, beside what KServe made of them.

`DIFFERENCES` is the one table of what differs, each line with its reason: on purpose (docs/differences.md), or because a later
part of Ladle brings it. Everything else must be the same, and a line that no recording needs any more fails.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from controller.base.errors import UserError
from controller.inferenceservice.offline import render
from controller.inferenceservice.offline_admission import validate
from tests.controller.inferenceservice.builders import SHARED

Objects = list[dict[str, Any]]

GOLDEN = SHARED / "golden/kserve"
pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="the reference recordings are not here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    why: str
    words: tuple[str, ...]
    """A line of the comparison with any of them is expected."""
    where: tuple[str, ...]
    """Fixtures and sequences; in each of them a line must be found."""


DIFFERENCES = (
    Difference(
        why="the agent stands in the Knative Service, where its port can have no name and its probe is seen; KServe's webhook "
        "puts it into the pod and copies the queue-proxy's environment into it, of which it needs the probe alone",
        words=("containers.agent.env", "containers.agent.ports", 'template.spec.readinessProbe: extra: {"agent"'),
        where=("explanation__aif__germancredit__bias", "logger-and-batcher"),
    ),
    Difference(
        why="Knative renames the port in the pod, and the tool leaves that name out; in the Knative Service both say the same",
        words=("containers.kserve-container.ports: extra", "containers.transformer-container.ports: extra"),
        where=(
            "v1beta1__custom__custom_model__custom",
            "v1beta1__tensorflow__grpc",
            "v1beta1__transformer__collocation__collocation",
        ),
    ),
    Difference(
        why="Knative completes a liveness probe in the pod; the Knative Service has what the manifest says",
        words=("livenessProbe.httpGet.port: 0", "livenessProbe.timeoutSeconds: missing"),
        where=("v1beta1__advanced__timeout",),
    ),
    Difference(
        why="what cannot work is PredictorReady False with a reason, where KServe leaves Unknown, and the message names the "
        "field, its value and the choices",
        words=(
            "conditions.PredictorReady",
            "conditions.Ready",
            "lastFailureInfo",
            "targetModelState",
            "transitionStatus",
        ),
        where=("fluid__fluid-isvc", "runtime-appears", "credentials", "runtime-problems"),
    ),
    Difference(
        why="a service that cannot be reconciled keeps its children as they are, so nothing of them is rendered",
        words=("not rendered", "modelStatus.copies", "conditions.Stopped"),
        where=("runtime-appears", "credentials"),
    ),
    Difference(
        why="a missing secret or key is known before a revision is made, which KServe's webhook then refuses",
        words=("conditions.LatestDeploymentReady", "conditions.PredictorConfigurationReady", "latestCreatedRevision"),
        where=("credentials",),
    ),
    Difference(
        why="a model that cannot be loaded is False at once with its last words; KServe waits for a deadline of 10 minutes",
        words=("conditions.PredictorReady", "conditions.Ready"),
        where=("first-failing",),
    ),
    Difference(
        why="lastFailureInfo goes after recovery: it says what is wrong now",
        words=("lastFailureInfo: missing",),
        where=("first-failing", "canary-failing"),
    ),
    Difference(
        why="a failure names its revision (modelRevisionName), so that it can be told from one of an older revision",
        words=("lastFailureInfo.modelRevisionName",),
        where=("first-failing", "canary-failing"),
    ),
    Difference(
        why="a removed transformer is deleted, with its conditions and its part of the status",
        words=("transformer", "Transformer"),
        where=("transformer-comes-and-goes",),
    ),
    Difference(
        why="recorded with an image name that Knative's admission refused; Knative's word comes to the controller "
        "(test_controller.py), not to an offline rendering, which prints the child",
        words=("KServe has no such object", "conditions.", "modelStatus.", "clusterServingRuntimeName: missing"),
        where=("collocated",),
    ),
    Difference(
        why="a later part: the InferenceGraph's own Knative Service",
        words=(
            "Service.serving.knative.dev/ensemble-model",
            "Service.serving.knative.dev/model-chainer",
            "Service.serving.knative.dev/model-switch",
            "Service.serving.knative.dev/graph",
        ),
        where=("graph__ensemble", "graph__sequence", "graph__switch", "graph"),
    ),
    Difference(
        why="a later part: several models in one server (TrainedModel), with the agent that fetches them",
        words=("modelconfig", "containers.agent", "volumes.model-", "kserve-container.volumeMounts"),
        where=("multimodelserving__triton__multi_model_triton",),
    ),
    Difference(
        why="a later part: Standard mode; such a service says DeploymentModeNotSupported and is left alone",
        words=(
            "not rendered",
            "status: address",
            "status: url",
            "components",
            "conditions.",
            "modelStatus",
            "RuntimeName",
        ),
        where=("standard-mode",),
    ),
)
SEQUENCES = (
    "canary-failing", "canary-promote", "canary-rollback", "collocated", "credentials", "deleted", "first-failing", "graph",
    "logger-and-batcher", "runtime-appears", "runtime-problems", "scaling-fields", "standard-mode", "stop-and-start",
    "tag-routing", "transformer-comes-and-goes",
)  # fmt: skip
LATER_FIXTURES = ("multimodelserving__sklearn__trainedmodels", "multimodelserving__triton__trained_model2")
"""TrainedModels alone, which a later part brings: nothing was made of them."""
REFUSED_BY_KSERVE = ("multimodelserving__sklearn__inferenceservice",)
"""KServe's own manifest that its admission refuses today, so nothing was recorded (refused.yaml)."""
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


def unexpected(found: list[str], name: str) -> list[str]:
    known = [word for item in DIFFERENCES if name in item.where for word in item.words]
    return [line for line in found if not any(word in line for word in known)]


def outlived(found: list[str], name: str) -> list[str]:
    """Lines of the table that say of this recording what is no longer so."""
    lines = [item for item in DIFFERENCES if name in item.where]
    return [item.why for item in lines if not any(word in line for line in found for word in item.words)]


def has_services(objects: Objects) -> bool:
    return any(item["kind"] == "InferenceService" for item in objects)


def test_nothing_is_left_out() -> None:
    assert {path.stem for path in (GOLDEN / "sequences").glob("*.yaml")} == set(SEQUENCES)
    names = {name for item in DIFFERENCES for name in item.where}
    assert names <= {*recorded(), *SEQUENCES}
    empty = {name for name in recorded() if not has_services(load(GOLDEN / "created" / f"{name}.yaml"))}
    assert empty == {*LATER_FIXTURES, *REFUSED_BY_KSERVE}


SERVICES = [name for name in recorded() if name not in (*LATER_FIXTURES, *REFUSED_BY_KSERVE)]


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("phase", ["created", "ready"])
def test_children_and_status_are_kserves(phase: str, name: str, cluster: Objects) -> None:
    golden = load(GOLDEN / phase / f"{name}.yaml")
    live = [item for item in golden if item["kind"] != "InferenceService"]
    rendered = render(offered(name), existing=[*cluster, *live], namespace="golden", with_status=True)
    found = compare(golden, rendered, status=True)
    assert unexpected(found, name) == []
    if phase == "ready":
        assert outlived(found, name) == []


@pytest.mark.parametrize("name", SERVICES)
def test_children_before_anything_exists_are_those_that_kserve_creates(name: str, cluster: Objects) -> None:
    golden = load(GOLDEN / "created" / f"{name}.yaml")
    if name == "fluid__fluid-isvc":  # Its runtime stands in a file of its own: neither makes a child.
        with pytest.raises(UserError, match="no ServingRuntime here and no ClusterServingRuntime has this name"):
            render(offered(name), existing=cluster, namespace="golden")
        return
    assert (
        unexpected(compare(golden, render(offered(name), existing=cluster, namespace="golden"), status=False), name)
        == []
    )


@pytest.mark.parametrize("name", REFUSED_BY_KSERVE)
def test_what_kserve_refuses_is_refused(name: str) -> None:
    (verdict,) = validate(offered(name))
    assert verdict.errors


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
        spec.get("canaryTrafficPercent") == 101 or spec.get("model", {}).get("protocolVersion") == "v7"
        for spec in specs
    ) or any(len(item["metadata"]["name"]) > 53 for item in manifests)


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_step_ends_where_kserve_ended(name: str, cluster: Objects) -> None:
    """From the step's own status nothing changes; from the status of the step before, one pass arrives, where three may."""
    differences = []
    for step, golden, before in steps(name):
        services = [item for item in golden if item["kind"] == "InferenceService"]
        manifests = [{**item, "metadata": _written(item)} for item in services]
        if unsupported(manifests):
            continue
        # Each step of runtime-problems starts from nothing.
        for known in (services,) if name == "runtime-problems" else (services, before):
            found = compare(golden, _pass(manifests, golden, known, cluster), status=True)
            differences += found
            if name == "canary-rollback" and known is before:  # Between the two steps v2 had all traffic for a moment.
                found = [line for line in found if "previousRolledoutRevision" not in line]
            assert unexpected(found, name) == [], (
                step,
                "from the step before" if known is before else "from its own status",
            )
    assert outlived(differences, name) == []


def _pass(manifests: Objects, golden: Objects, known: Objects, cluster: Objects) -> Objects:
    """What one pass of the controller makes of a step's objects, where the service's status is that of `known`."""
    known = copy.deepcopy(known)
    now = {item["metadata"]["name"]: item for item in golden if item["kind"] == "InferenceService"}
    for item in known:
        if item["metadata"]["name"] in now:
            item["metadata"]["generation"] = now[item["metadata"]["name"]]["metadata"]["generation"]
    live = [item for item in golden if item["kind"] != "InferenceService"]
    existing = [*cluster, *live, *known, *IDENTITIES]
    return render(manifests, existing=existing, namespace="golden", with_status=True)


def _written(item: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in item["metadata"].items()
        if name in ("name", "namespace", "annotations", "labels")
    }
