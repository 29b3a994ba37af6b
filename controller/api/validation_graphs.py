"""Whether an InferenceGraph can be stored: KServe's rules (spec/kserve.md 1.5), and that no request can be lost in it.

KServe accepts nodes that lead nowhere, in circles or to nothing; its router then drops the connection or answers 500.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Final

from pydantic import ValidationError

from controller.api.admission import AdmissionRequest, Operation
from controller.api.field_errors import duplicate, forbidden, invalid, not_supported, required, type_errors
from controller.api.inferencegraph import ROOT_NODE, SPLITTER, InferenceGraph, InferenceRouter, InferenceStep
from controller.api.validation_names import validate_service_name
from controller.base.errors import FieldError, Invalid
from controller.base.json import JsonObject

_TARGETS: Final = ("nodeName", "serviceName", "serviceUrl")


def admit_inference_graph(request: AdmissionRequest) -> JsonObject:
    """The graph as it is to be stored, which is as it was offered."""
    if request.operation is not Operation.DELETE and not request.subresource:
        try:
            graph = InferenceGraph.parse(request.object)
        except ValidationError as error:
            raise Invalid(type_errors(error)) from None
        errors = [] if graph.metadata.deletionTimestamp else list(validate_inference_graph(graph))
        if errors:
            raise Invalid(errors)
    return dict(request.object)


def validate_inference_graph(graph: InferenceGraph) -> Iterator[FieldError]:
    """All that is wrong with a graph."""
    yield from validate_service_name(graph.metadata.name)
    nodes = graph.spec.nodes
    if ROOT_NODE not in nodes:
        yield required(f"spec.nodes.{ROOT_NODE}", "requests enter a graph at this node")
    for name, node in nodes.items():
        yield from _validate_node(node, f"spec.nodes.{name}", nodes)
    yield from _validate_circles(nodes)


def _validate_node(node: InferenceRouter, path: str, nodes: Mapping[str, InferenceRouter]) -> Iterator[FieldError]:
    if not node.steps:
        yield required(f"{path}.steps", "a request that comes here must go somewhere")
    seen: set[str] = set()
    for position, step in enumerate(node.steps):
        where = f"{path}.steps[{position}]"
        if step.name and step.name in seen:
            yield duplicate(f"{where}.name", step.name)
        seen.add(step.name)
        yield from _validate_target(step, where, nodes)
    if node.routerType == SPLITTER and node.steps:
        yield from _validate_weights(node, path)


def _validate_target(step: InferenceStep, path: str, nodes: Mapping[str, InferenceRouter]) -> Iterator[FieldError]:
    targets = [name for name in _TARGETS if getattr(step, name)]
    if not targets:
        yield required(path, f"one of {', '.join(_TARGETS)} says where requests go")
    for name in targets[1:]:
        yield forbidden(f"{path}.{name}", f"{targets[0]} says already where requests go")
    if step.nodeName and step.nodeName not in nodes:
        yield not_supported(f"{path}.nodeName", step.nodeName, nodes)


def _validate_weights(node: InferenceRouter, path: str) -> Iterator[FieldError]:
    for position, step in enumerate(node.steps):
        if step.weight is None:
            yield required(f"{path}.steps[{position}].weight", "a Splitter sends each step its percentage of requests")
        elif not 0 <= step.weight <= 100:
            yield invalid(f"{path}.steps[{position}].weight", step.weight, "must be in [0, 100]")
    total = sum(step.weight or 0 for step in node.steps)
    if total != 100 and all(step.weight is not None for step in node.steps):
        yield invalid(f"{path}.steps", total, "the weights of a Splitter must sum to 100")


def _validate_circles(nodes: Mapping[str, InferenceRouter]) -> Iterator[FieldError]:
    """The first circle of nodes: a request in there would go round for ever."""
    leads_to = {name: {step.nodeName for step in node.steps if step.nodeName} for name, node in nodes.items()}
    try:
        TopologicalSorter(leads_to).prepare()
    except CycleError as error:
        # The sorter names each node before the one that leads to it.
        circle = list(reversed(error.args[1]))
        yield invalid("spec.nodes", " → ".join(circle), "nodes must not lead in a circle")
