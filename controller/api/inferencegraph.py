"""serving.kserve.io/v1alpha1 InferenceGraph: requests that go through several services, as nodes of routers with steps."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from controller.api.meta import ApiModel, Condition, Resource

KIND: Final = "InferenceGraph"
ROOT_NODE: Final = "root"
"""Where every request begins."""
SPLITTER: Final = "Splitter"
"""The router whose steps have weights."""


class InferenceStep(ApiModel):
    name: str = ""
    nodeName: str = ""
    serviceName: str = ""
    serviceUrl: str = ""
    weight: int | None = None
    """Percent of requests; for steps of a Splitter."""


class InferenceRouter(ApiModel):
    routerType: str = ""
    """Sequence, Splitter, Ensemble or Switch."""
    steps: list[InferenceStep] = Field(default_factory=list)


class InferenceGraphSpec(ApiModel):
    nodes: dict[str, InferenceRouter] = Field(default_factory=dict)


class InferenceGraphStatus(ApiModel):
    conditions: list[Condition] = Field(default_factory=list)


class InferenceGraph(Resource):
    spec: InferenceGraphSpec = Field(default_factory=InferenceGraphSpec)
    status: InferenceGraphStatus = Field(default_factory=InferenceGraphStatus)
