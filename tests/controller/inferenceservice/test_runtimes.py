"""Which runtime serves a model, and what a refusal says."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.inferenceservice import ModelSpec
from controller.api.servingruntime import ServingRuntime
from controller.base.errors import UserError
from controller.inferenceservice.runtimes import select_runtime
from tests.controller.inferenceservice.builders import runtime


def entry(
    name: str = "sklearn", version: str | None = "1", *, auto: bool = True, priority: int | None = None
) -> dict[str, Any]:
    fields = {"name": name, "version": version, "autoSelect": auto, "priority": priority}
    return {field: value for field, value in fields.items() if value is not None}


def model(name: str = "sklearn", version: str | None = None, **rest: Any) -> ModelSpec:
    model_format = {"name": name, **({"version": version} if version else {})}
    return ModelSpec.parse({"modelFormat": model_format, **rest})


def chosen(wanted: ModelSpec, *runtimes: ServingRuntime) -> str:
    return select_runtime(wanted, runtimes).runtime.metadata.name


def refusal(wanted: ModelSpec, *runtimes: ServingRuntime) -> UserError:
    with pytest.raises(UserError) as caught:
        select_runtime(wanted, runtimes)
    return caught.value


SKLEARN = runtime("sklearnserver", entry(priority=1))
MLSERVER = runtime("mlserver", entry(version="0", priority=2), entry(priority=2), protocols=["v2"])


def test_without_a_protocol_v1_is_asked_for() -> None:
    assert chosen(model(), MLSERVER, SKLEARN) == "sklearnserver"


def test_the_larger_priority_wins_among_those_that_speak_the_protocol() -> None:
    assert chosen(model(protocolVersion="v2"), SKLEARN, MLSERVER) == "mlserver"


def test_the_protocol_of_the_choice_is_the_one_asked_for() -> None:
    assert select_runtime(model(protocolVersion="v2"), [MLSERVER]).protocol == "v2"
    assert select_runtime(model(), [SKLEARN]).protocol == "v1"


def test_a_format_that_only_v2_serves_needs_no_protocol() -> None:
    triton = runtime("triton", entry("onnx"), protocols=["v2", "grpc-v2"])
    assert select_runtime(model("onnx"), [SKLEARN, triton]).protocol == "v2"


def test_a_runtime_of_the_namespace_wins_whatever_its_priority() -> None:
    own = runtime("own", entry(), kind="ServingRuntime")
    assert chosen(model(), SKLEARN, own) == "own"


def test_a_priority_beats_none() -> None:
    assert chosen(model(), runtime("a", entry()), runtime("b", entry(priority=1))) == "b"


def test_among_equals_the_newest_wins_then_the_name() -> None:
    old = runtime("a", entry(), created="2025-01-01T00:00:00Z")
    new = runtime("b", entry(), created="2026-01-01T00:00:00Z")
    assert chosen(model(), old, new) == "b"
    assert chosen(model(), runtime("d", entry()), runtime("c", entry())) == "c"


def test_among_equals_the_lower_protocol_comes_before_age() -> None:
    v2 = runtime("v2-first", entry(), protocols=["v2"], created="2026-02-01T00:00:00Z")
    v1 = runtime("v1-too", entry(), protocols=["v1", "v2"], created="2025-01-01T00:00:00Z")
    assert chosen(model(protocolVersion="v2"), v2, v1) == "v1-too"


def test_a_version_matches_exactly() -> None:
    assert chosen(model(version="1"), SKLEARN) == "sklearnserver"
    assert "supports version 1, not 1.2" in refusal(model(version="1.2"), SKLEARN).message
    assert refusal(model(version="1"), runtime("any", entry(version=None))).reason == "NoSupportingRuntime"


def test_names_of_formats_are_case_sensitive() -> None:
    assert refusal(model("SKLearn"), SKLEARN).reason == "NoSupportingRuntime"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"disabled": True}, "disabled"),
        ({"multiModel": True}, "several models"),
        ({"workerSpec": {}}, "over nodes"),
        ({"supportedModelFormats": [entry(auto=False)]}, "has to be named"),
        ({"protocolVersions": ["grpc-v9"]}, "speaks grpc-v9"),
    ],
)
def test_each_candidate_is_named_with_the_rule_that_it_failed(spec: dict[str, Any], why: str) -> None:
    message = refusal(model(), runtime("candidate", **spec)).message
    assert "candidate" in message
    assert why in message


def test_an_unknown_format_names_itself_and_what_there_is() -> None:
    error = refusal(model("fortran", "77"), SKLEARN, runtime("xgb", entry("xgboost")))
    assert error.reason == "NoSupportingRuntime"
    assert 'modelFormat "fortran" version "77"' in error.message
    assert "sklearn, xgboost" in error.message


def test_where_nothing_is_installed_the_message_says_so() -> None:
    assert "no ServingRuntime or ClusterServingRuntime is installed" in refusal(model()).message


def test_a_cluster_with_hundreds_of_formats_does_not_fill_the_screen() -> None:
    many = runtime("many", *(entry(f"format-{i:03}") for i in range(200)))
    message = refusal(model("other"), many).message
    assert "and 170 more" in message


def test_a_named_runtime_needs_no_auto_selection() -> None:
    predictive = runtime("predictive", entry(auto=False))
    assert chosen(model(runtime="predictive"), SKLEARN, predictive) == "predictive"


def test_a_named_runtime_is_looked_for_in_the_namespace_first() -> None:
    own = runtime("sklearnserver", entry(), kind="ServingRuntime")
    assert select_runtime(model(runtime="sklearnserver"), [SKLEARN, own]).runtime.kind == "ServingRuntime"


def test_a_named_runtime_gives_its_lowest_protocol() -> None:
    both = runtime("both", entry(), protocols=["grpc-v2", "v2"])
    assert select_runtime(model(runtime="both"), [both]).protocol == "v2"
    silent = runtime("silent", entry(), protocols=[])
    assert select_runtime(model(runtime="silent"), [silent]).protocol == "v1"


def test_a_named_runtime_that_does_not_exist_is_named_with_those_that_do() -> None:
    error = refusal(model(runtime="nowhere"), SKLEARN)
    assert error.reason == "RuntimeNotRecognized"
    assert '"nowhere"' in error.message
    assert "sklearnserver" in error.message


def test_a_named_runtime_that_is_disabled_says_so() -> None:
    assert refusal(model(runtime="off"), runtime("off", disabled=True)).reason == "RuntimeDisabled"


def test_a_named_runtime_must_speak_the_protocol_and_know_the_format() -> None:
    protocol = refusal(model(runtime="mlserver", protocolVersion="v1"), MLSERVER)
    assert (protocol.reason, "it speaks: v2" in protocol.message) == ("NoSupportingRuntime", True)
    unknown = refusal(model("xgboost", runtime="mlserver"), MLSERVER)
    assert (unknown.reason, "it supports: sklearn" in unknown.message) == ("NoSupportingRuntime", True)


def test_a_service_over_nodes_gets_a_runtime_over_nodes() -> None:
    spread = runtime("spread", workerSpec={"pipelineParallelSize": 2})
    assert select_runtime(model(), [SKLEARN, spread], multi_node=True).runtime.metadata.name == "spread"


@given(st.permutations(range(6)), st.integers(0, 3))
def test_the_choice_does_not_depend_on_the_order_of_the_runtimes(order: list[int], seed: int) -> None:
    rng = random.Random(seed)
    runtimes = [
        runtime(
            f"rt-{i}",
            entry(priority=rng.choice([None, 1, 2])),
            protocols=rng.choice([["v1"], ["v1", "v2"], []]),
            kind=rng.choice(["ServingRuntime", "ClusterServingRuntime"]),
            created=rng.choice(["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]),
        )
        for i in range(6)
    ]
    assert chosen(model(), *(runtimes[i] for i in order)) == chosen(model(), *runtimes)
