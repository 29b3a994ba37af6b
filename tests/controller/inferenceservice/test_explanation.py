"""What `ladle explain-runtime` says: the selection's own words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.inferenceservice import ModelSpec
from controller.base.errors import UserError
from controller.inferenceservice.explanation import explain_runtimes
from controller.inferenceservice.runtimes import Selection, explain_selection, select_runtime
from tests.controller.inferenceservice.builders import manifest, runtime


def entry(priority: int | None = None, version: str = "1") -> dict[str, Any]:
    return {"name": "sklearn", "version": version, "autoSelect": True, **({"priority": priority} if priority else {})}


def explained(*runtimes: Any, **model: Any) -> Selection:
    wanted = ModelSpec.parse({"modelFormat": {"name": "sklearn"}, **model})
    return explain_selection(wanted, runtimes)


def against(selection: Selection) -> dict[str, str]:
    return {item.runtime.metadata.name: item.against for item in selection.considered}


def test_the_winner_stands_first_and_the_reason_compares_it_with_the_next() -> None:
    selection = explained(runtime("low", entry(1)), runtime("high", entry(2)), protocolVersion="v1")
    assert selection.why == "priority 2 for sklearn, before low (priority 1 for sklearn)"
    assert against(selection) == {"high": "", "low": "priority 1 for sklearn, behind high (priority 2 for sklearn)"}
    assert selection.considered[0].runtime.metadata.name == "high"


def test_each_rule_of_the_order_has_its_words() -> None:
    own = runtime("own", entry(), kind="ServingRuntime")
    assert "of this namespace, before high (of the cluster)" in explained(runtime("high", entry(2)), own).why
    v2 = runtime("v2", entry(), protocols=["v2"])
    both = runtime("both", entry())
    assert "first protocol v1, before v2 (first protocol v2)" in explained(v2, both, protocolVersion="v2").why
    old, new = runtime("a", entry(), created="2025-01-01T00:00:00Z"), runtime("b", entry())
    assert "created 2026-01-01T00:00:00Z, before a (created 2025" in explained(old, new).why
    assert "name c, before d (name d)" in explained(runtime("d", entry()), runtime("c", entry())).why


def test_the_only_one_that_fits_and_the_protocol_that_was_assumed_are_said() -> None:
    selection = explained(runtime("only", entry()), runtime("v2", entry(), protocols=["v2"]))
    assert selection.why == "it is the only one that fits (the manifest asks for no protocolVersion, which reads as v1)"
    assert against(selection)["v2"] == "it speaks v2, not v1"


def test_a_named_runtime_wins_and_the_others_are_not_looked_at() -> None:
    hidden, own = runtime("x", entry()), runtime("x", entry(), kind="ServingRuntime")
    selection = explained(hidden, own, runtime("other", entry()), runtime="x")
    assert selection.choice is not None
    assert selection.choice.runtime is own
    assert selection.why == "the manifest names it"
    assert [item.against for item in selection.considered] == [
        "",
        "the manifest names another one",
        "the ServingRuntime of this namespace hides it",
    ]


def test_where_none_fits_each_has_a_reason_and_the_refusal_is_the_controllers() -> None:
    selection = explained(runtime("off", entry(), disabled=True), runtime("other", {"name": "onnx"}))
    assert selection.choice is None
    assert selection.refusal is not None
    assert selection.refusal.reason == "NoSupportingRuntime"
    assert against(selection) == {"off": "it is disabled", "other": "it does not know the format"}


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 1, 2]), st.sampled_from([["v1"], ["v2"], ["v1", "v2"], []]), st.booleans()),
        max_size=5,
    ),
    st.sampled_from([None, "v1", "v2", "grpc-v2"]),
)
def test_the_explanation_and_the_selection_agree(offered: list[tuple[Any, ...]], protocol: str | None) -> None:
    runtimes = [
        runtime(
            f"r{i}", entry(priority), protocols=protocols, kind="ServingRuntime" if own else "ClusterServingRuntime"
        )
        for i, (priority, protocols, own) in enumerate(offered)
    ]
    wanted = ModelSpec.parse(
        {"modelFormat": {"name": "sklearn"}, **({"protocolVersion": protocol} if protocol else {})}
    )
    selection = explain_selection(wanted, runtimes)
    assert len(selection.considered) == len(runtimes)
    taken = [item.runtime for item in selection.considered if not item.against]
    if selection.refusal is None:
        assert taken == [select_runtime(wanted, runtimes).runtime]
        return
    assert not taken
    with pytest.raises(UserError) as caught:
        select_runtime(wanted, runtimes)
    assert caught.value.reason == selection.refusal.reason


def test_json_names_the_choice_and_every_candidate() -> None:
    (told,) = (item.to_json() for item in explain_runtimes([manifest()], existing=[runtime("rt").to_json()]))
    assert told["chosen"]["name"] == "rt"
    assert told["chosen"]["protocolVersion"] == "v1"
    assert told["considered"] == [{"kind": "ClusterServingRuntime", "name": "rt", "chosen": True}]
    custom_only = manifest()
    custom_only["spec"]["predictor"] = {"containers": [{"name": "c", "image": "i"}]}
    (custom,) = explain_runtimes([custom_only])
    assert custom.to_json() == {"namespace": "ns", "name": "iris", "needsRuntime": False}
