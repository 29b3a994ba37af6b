"""What admission says of InferenceGraphs and TrainedModels."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.admission import AdmissionRequest, Admit, Operation
from controller.api.validation_graphs import admit_inference_graph
from controller.api.validation_trained_models import admit_trained_model
from controller.base.errors import Invalid

ADMITS: dict[str, Admit] = {"InferenceGraph": admit_inference_graph, "TrainedModel": admit_trained_model}
A = {"serviceName": "a"}


def request(offered: dict[str, Any], old: dict[str, Any] | None = None, **rest: Any) -> AdmissionRequest:
    given = {"operation": Operation.UPDATE if old else Operation.CREATE, **rest}
    name = offered["metadata"]["name"]
    return AdmissionRequest(
        group="serving.kserve.io", kind=offered["kind"], namespace="ns", name=name, object=offered, old=old, **given
    )


def refused(offered: dict[str, Any], old: dict[str, Any] | None = None, **rest: Any) -> dict[str, str]:
    """The fields that are wrong, with their messages."""
    try:
        ADMITS[offered["kind"]](request(offered, old, **rest))
    except Invalid as error:
        return {item.field: item.message for item in error.errors}
    return {}


def graph(*steps: dict[str, Any], router: str = "Sequence", name: str = "graph", **nodes: Any) -> dict[str, Any]:
    root = {"root": {"routerType": router, "steps": list(steps)}} if steps else {}
    return {"kind": "InferenceGraph", "metadata": {"name": name}, "spec": {"nodes": root | nodes}}


def to(node: str) -> dict[str, Any]:
    return {"routerType": "Sequence", "steps": [{"nodeName": node}]}


@pytest.mark.parametrize(
    ("offered", "wrong"),
    [
        (graph(A, name="9graph"), "metadata.name"),
        (graph(first=to("first") | {"steps": [A]}), "spec.nodes.root"),
        (graph({**A, "name": "x"}, {**A, "name": "x"}), "spec.nodes.root.steps[1].name"),
        (graph({"name": "x"}), "spec.nodes.root.steps[0]"),
        (graph({**A, "serviceUrl": "http://b"}), "spec.nodes.root.steps[0].serviceUrl"),
        (graph(A, {**A, "weight": 3}, router="Splitter"), "spec.nodes.root.steps[0].weight"),
        (graph({**A, "weight": 20}, {**A, "weight": 70}, router="Splitter"), "spec.nodes.root.steps"),
        (graph({**A, "weight": 120}, {**A, "weight": -20}, router="Splitter"), "spec.nodes.root.steps[1].weight"),
        (graph({"nodeName": "nowhere"}), "spec.nodes.root.steps[0].nodeName"),
        (graph(A, second={"routerType": "Switch"}), "spec.nodes.second.steps"),
        (graph({"nodeName": "root"}), "spec.nodes"),
        (graph({"nodeName": "a"}, a=to("b"), b=to("a")), "spec.nodes"),
        (graph({**A, "name": ["x"]}), "spec.nodes.root.steps[0].name"),
    ],
)
def test_what_is_wrong_with_a_graph_is_named(offered: dict[str, Any], wrong: str) -> None:
    assert wrong in refused(offered)


def test_a_circle_is_shown_in_the_order_in_which_requests_go_round() -> None:
    message = refused(graph({"nodeName": "a"}, a=to("b"), b=to("c"), c=to("a")))["spec.nodes"]
    assert any(circle in message for circle in ("a → b → c → a", "b → c → a → b", "c → a → b → c"))


@pytest.mark.parametrize(
    "offered",
    [
        graph(A, {"serviceName": "b", "data": "$response"}),
        graph({**A, "weight": 0}, {"nodeName": "end", "weight": 100}, router="Splitter", end=to("") | {"steps": [A]}),
        graph({"nodeName": "x"}, {"nodeName": "y"}, router="Ensemble", x=to("z"), y=to("z"), z=to("") | {"steps": [A]}),
        graph({"condition": "x==1", **A}, router="Switch"),
    ],
)
def test_graphs_that_lead_somewhere_are_accepted(offered: dict[str, Any]) -> None:
    assert ADMITS["InferenceGraph"](request(offered)) == offered


def model(name: str = "tm", uri: str = "gs://a/b", memory: str | int = "1Gi") -> dict[str, Any]:
    source = {"storageUri": uri, "framework": "sklearn", "memory": memory}
    return {"kind": "TrainedModel", "metadata": {"name": name}, "spec": {"inferenceService": "iris", "model": source}}


@pytest.mark.parametrize(
    ("offered", "wrong"),
    [
        (model(name="a.b"), "metadata.name"),
        (model(uri="ftp://a/b"), "spec.model.storageUri"),
        (model(uri=""), "spec.model.storageUri"),
    ],
)
def test_what_is_wrong_with_a_trained_model_is_named(offered: dict[str, Any], wrong: str) -> None:
    assert wrong in refused(offered)


def test_the_memory_of_a_trained_model_stays() -> None:
    assert "spec.model.memory" in refused(model(memory="2Gi"), old=model())
    assert not refused(model(memory="1024Mi"), old=model())
    assert refused(model(memory="much"), old=model(memory="much")) == {}


def test_what_is_being_deleted_and_a_status_are_not_judged() -> None:
    for offered in (graph({"nodeName": "nowhere"}), model(uri="")):
        assert refused(offered)
        assert not refused(offered, operation=Operation.DELETE)
        assert not refused(offered, subresource="status")
        leaving = {**offered, "metadata": {**offered["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
        assert not refused(leaving)
