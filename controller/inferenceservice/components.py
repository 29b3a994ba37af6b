"""Predictor, transformer and explainer as one thing: a part of a service that becomes one Knative Service. (pure)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.api.inferenceservice import ComponentSpec, InferenceService
from controller.base.names import COMPONENT_LABEL, ISVC_LABEL

STOP_ANNOTATION: Final = "serving.kserve.io/stop"


class ComponentKind(StrEnum):
    PREDICTOR = "predictor"
    TRANSFORMER = "transformer"
    EXPLAINER = "explainer"

    @property
    def word(self) -> str:
        """The kind as it begins the names of conditions: Predictor."""
        return self.value.capitalize()


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    kind: ComponentKind
    service_name: str
    namespace: str
    spec: ComponentSpec
    predictor_name: str | None = None
    """The predictor's own name, if it has one."""

    @property
    def child_name(self) -> str:
        """The name of the Knative Service."""
        middle = f"-{self.predictor_name}" if self.predictor_name and self.kind is ComponentKind.PREDICTOR else ""
        return f"{self.service_name}{middle}-{self.kind}"

    @property
    def own_labels(self) -> Mapping[str, str]:
        """The labels by which everything that belongs to this component is found."""
        return {ISVC_LABEL: self.service_name, COMPONENT_LABEL: str(self.kind)}

    def local_host(self, cluster_domain: str) -> str:
        """The host name of the Knative Service inside the cluster."""
        return f"{self.child_name}.{self.namespace}.svc.{cluster_domain}"


def components_of(service: InferenceService) -> tuple[Component, ...]:
    """The components that a service has, in the order in which KServe makes them."""
    spec = service.spec
    found = {
        ComponentKind.PREDICTOR: spec.predictor,
        ComponentKind.TRANSFORMER: spec.transformer,
        ComponentKind.EXPLAINER: spec.explainer,
    }
    return tuple(
        Component(
            kind=kind,
            service_name=service.metadata.name,
            namespace=service.metadata.namespace,
            spec=component,
            predictor_name=spec.predictor.name,
        )
        for kind, component in found.items()
        if component is not None
    )


def is_stopped(service: InferenceService) -> bool:
    """Whether a service is kept without running anything."""
    return service.metadata.annotations.get(STOP_ANNOTATION, "").lower() == "true"
