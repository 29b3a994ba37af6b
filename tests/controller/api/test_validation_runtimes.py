"""What admission says of runtimes: each for itself, beside others, and of models over several nodes."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.admission import AdmissionRequest, Operation
from controller.api.defaulting import Defaults
from controller.api.validation import inference_service_admission
from controller.api.validation_runtimes import serving_runtime_admission
from controller.base.errors import Invalid

SIDE = {"name": "kserve-container", "image": "i"}
WORKER = {"name": "worker-container", "image": "w"}
WORKERS = {"containers": [WORKER]}
NO_SCALING = {"serving.kserve.io/autoscalerClass": "none"}
GPU_TYPES = "serving.kserve.io/gpu-resource-types"


def format_of(name: str = "a", version: str | None = "1", priority: int | None = 1, **rest: Any) -> dict[str, Any]:
    return {"name": name, "version": version, "autoSelect": True, "priority": priority, **rest}


def rt(name: str = "rt", **spec: Any) -> dict[str, Any]:
    shape = {"supportedModelFormats": [format_of()], "protocolVersions": ["v1", "v2"], "containers": [SIDE]}
    return {"kind": "ServingRuntime", "metadata": {"name": name}, "spec": {**shape, **spec}}


def refused(
    offered: dict[str, Any],
    old: dict[str, Any] | None = None,
    others: tuple[dict[str, Any], ...] = (),
    defaults: Defaults | None = None,
) -> dict[str, str]:
    """The fields that are wrong, with their messages."""
    asked = AdmissionRequest(
        operation=Operation.UPDATE if old else Operation.CREATE,
        group="serving.kserve.io",
        kind=offered["kind"],
        namespace="ns",
        name=offered["metadata"]["name"],
        object=offered,
        old=old,
        others=others,
    )
    admission = inference_service_admission if offered["kind"] == "InferenceService" else serving_runtime_admission
    try:
        admission(defaults or Defaults())(asked)
    except Invalid as error:
        return {item.field: item.message for item in error.errors}
    return {}


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"containers": []}, "spec.containers"),
        ({"containers": [{**SIDE, "env": [{"name": "PYTHONPATH"}]}]}, "spec.containers[0].env[0]"),
        ({"workerSpec": {"containers": []}}, "spec.workerSpec.containers"),
        ({"workerSpec": {"containers": [WORKER, WORKER]}}, "spec.workerSpec.containers"),
        ({"workerSpec": {**WORKERS, "pipelineParallelSize": 0}}, "spec.workerSpec.pipelineParallelSize"),
        (
            {"workerSpec": {"containers": [{**WORKER, "env": [{"name": "PYTHONPATH"}]}]}},
            "spec.workerSpec.containers[0].env[0]",
        ),
        (
            {"workerSpec": WORKERS, "containers": [{**SIDE, "env": [{"name": "TENSOR_PARALLEL_SIZE"}]}]},
            "spec.containers[0].env",
        ),
        (
            {"supportedModelFormats": [format_of(priority=1), format_of(version="2", priority=2)]},
            "spec.supportedModelFormats[1].priority",
        ),
    ],
)
def test_what_is_wrong_with_a_runtime_is_named(spec: dict[str, Any], wrong: str) -> None:
    assert list(refused(rt(**spec))) == [wrong]
    assert not refused(rt(**spec, disabled=True))


def test_a_runtime_over_nodes_stays_one() -> None:
    assert "spec.workerSpec" in refused(rt(), old=rt(workerSpec=WORKERS))
    assert not refused(rt(workerSpec=WORKERS), old=rt(workerSpec=WORKERS))


@pytest.mark.parametrize("priorities", [(1, 1), (None, 1), (1, None), (None, None)])
def test_entries_of_a_format_may_leave_their_priority_to_the_first(priorities: tuple[int | None, int | None]) -> None:
    formats = [format_of(version=str(position), priority=item) for position, item in enumerate(priorities)]
    assert not refused(rt(supportedModelFormats=formats))


def test_a_priority_that_another_runtime_has_is_refused_with_its_name() -> None:
    third = rt("third", supportedModelFormats=[format_of(priority=2)])
    ((field, message),) = refused(rt(), others=(rt("other"), third)).items()
    assert field == "spec.supportedModelFormats[0].priority"
    assert message == "Invalid value: 1: ServingRuntime other has the same priority for format a 1; take another number"
    assert refused(rt(), old=rt(supportedModelFormats=[format_of(priority=3)]), others=(rt("other"),))


@pytest.mark.parametrize(
    "other",
    [
        rt("rt"),
        rt("other", disabled=True),
        rt("other", multiModel=True),
        rt("other", protocolVersions=["grpc-v2"]),
        rt("other", protocolVersions=[]),
        rt("other", supportedModelFormats=[format_of(autoSelect=False)]),
        rt("other", supportedModelFormats=[format_of(priority=2)]),
        rt("other", supportedModelFormats=[format_of(priority=None)]),
        rt("other", supportedModelFormats=[format_of(version="2")]),
        rt("other", supportedModelFormats=[format_of(version=None)]),
        rt("other", supportedModelFormats=[format_of("b")]),
        {**rt("other"), "spec": {"containers": "unreadable"}},
    ],
)
def test_runtimes_that_are_never_taken_for_the_same_model_do_not_compete(other: dict[str, Any]) -> None:
    assert not refused(rt(), others=(other,))


def test_a_runtime_whose_server_is_not_here_competes_with_none() -> None:
    other = rt("other")
    other["metadata"]["annotations"] = {"ladle.dev/missing": "a: its server is not on this machine"}
    assert not refused(rt(), others=(other,))
    other["metadata"]["annotations"] = {"ladle.dev/missing": "b: this format alone"}
    assert refused(rt(), others=(other,))


def test_names_of_formats_compete_whatever_their_case_and_a_disabled_runtime_competes_with_none() -> None:
    other = rt("other", supportedModelFormats=[format_of("A")])
    assert refused(rt(), others=(other,))
    assert not refused(rt(disabled=True), others=(other,))


def over_nodes(
    workers: dict[str, Any] | None = None, annotations: dict[str, str] | None = None, **model: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "big", "namespace": "ns", "annotations": NO_SCALING | (annotations or {})},
        "spec": {
            "predictor": {
                "model": {"modelFormat": {"name": "a"}, "storageUri": "pvc://c", **model},
                "workerSpec": workers or {},
            }
        },
    }


def gpu(name: str) -> dict[str, Any]:
    return {"limits": {name: "1"}}


@pytest.mark.parametrize(
    ("offered", "wrong"),
    [
        (over_nodes({"containers": [WORKER, WORKER]}), "spec.predictor.workerSpec.containers"),
        (over_nodes({"tensorParallelSize": 0}), "spec.predictor.workerSpec.tensorParallelSize"),
        (over_nodes({"pipelineParallelSize": 0}), "spec.predictor.workerSpec.pipelineParallelSize"),
        (over_nodes(env=[{"name": "TENSOR_PARALLEL_SIZE", "value": "2"}]), "spec.predictor.model.env[0]"),
        (over_nodes(env=[{"name": "PIPELINE_PARALLEL_SIZE", "value": "2"}]), "spec.predictor.model.env[0]"),
        (over_nodes(storageUri="gs://a/b"), "spec.predictor.model.storageUri"),
        (over_nodes(storageUri=None), "spec.predictor.model.storageUri"),
        (
            over_nodes(annotations={"serving.kserve.io/autoscalerClass": "hpa"}),
            "metadata.annotations[serving.kserve.io/autoscalerClass]",
        ),
        (over_nodes(resources=gpu("acme.com/npu")), "spec.predictor.model.resources.limits[acme.com/npu]"),
        (
            over_nodes({"containers": [{**WORKER, "resources": {"requests": {"acme.com/npu": 1}}}]}),
            "spec.predictor.workerSpec.containers[0].resources.requests[acme.com/npu]",
        ),
        (
            over_nodes({"containers": [{**WORKER, "env": [{"name": "PYTHONPATH", "value": "/x"}]}]}),
            "spec.predictor.workerSpec.containers[0].env[0]",
        ),
        (
            over_nodes({"initContainers": [{"name": "i", "env": [{"name": "PYTHONPATH", "value": "/x"}]}]}),
            "spec.predictor.workerSpec.initContainers[0].env[0]",
        ),
        (over_nodes({"containers": [{"name": 3}]}), "spec.predictor.workerSpec.containers[0].name"),
        (over_nodes(annotations={GPU_TYPES: "[]"}), f"metadata.annotations[{GPU_TYPES}]"),
        (over_nodes(annotations={GPU_TYPES: "acme.com/npu"}), f"metadata.annotations[{GPU_TYPES}]"),
        (over_nodes(annotations={GPU_TYPES: '["a", 3]'}), f"metadata.annotations[{GPU_TYPES}]"),
    ],
)
def test_what_is_wrong_with_a_model_over_nodes_is_named(offered: dict[str, Any], wrong: str) -> None:
    assert list(refused(offered)) == [wrong]


@pytest.mark.parametrize(
    "offered",
    [
        over_nodes({"pipelineParallelSize": 2, "tensorParallelSize": 1}),
        over_nodes(storageUri="oci://a/b"),
        *(over_nodes(resources=gpu(name)) for name in ("nvidia.com/gpu", "nvidia.com/mig-1g.5gb", "habana.ai/gaudi")),
        over_nodes(annotations={GPU_TYPES: '["acme.com/npu"]'}, resources=gpu("acme.com/npu")),
        over_nodes(resources={"limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}}),
    ],
)
def test_a_model_over_nodes_that_fits_together_is_accepted(offered: dict[str, Any]) -> None:
    assert not refused(offered)


def test_runtimes_over_nodes_name_gpus_that_are_known() -> None:
    npu = {**WORKER, "resources": gpu("acme.com/npu")}
    assert "spec.workerSpec.containers[0].resources.limits[acme.com/npu]" in refused(
        rt(workerSpec={"containers": [npu]})
    )
    serving = {**SIDE, "resources": gpu("acme.com/npu")}
    assert "spec.containers[0].resources.limits[acme.com/npu]" in refused(rt(workerSpec=WORKERS, containers=[serving]))
    assert not refused(rt(containers=[serving]))
    named = {GPU_TYPES: '["acme.com/npu"]'}
    assert not refused(rt(workerSpec={"containers": [npu]}, annotations=named))


def test_the_settings_may_know_more_gpus() -> None:
    settings = Defaults(gpu_types=("acme.com/npu",))
    assert not refused(over_nodes(resources=gpu("acme.com/npu")), defaults=settings)
    npu = {**WORKER, "resources": gpu("acme.com/npu")}
    assert not refused(rt(workerSpec={"containers": [npu]}), defaults=settings)
